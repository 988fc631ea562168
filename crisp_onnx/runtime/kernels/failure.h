// The one exception of the library: its text becomes the message of an ONNX Runtime error.
#pragma once

#include <stdexcept>
#include <string>

namespace crisp {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void require(bool holds, const char* text) {
  if (!holds) throw Failure(text);
}

}  // namespace crisp
