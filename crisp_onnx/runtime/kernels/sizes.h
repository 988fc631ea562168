// Sizes that cannot wrap. Whatever becomes a number of bytes, of numbers or of work items is multiplied and added up in
// this type, so that a layer whose sizes do not fit is a Failure rather than a small buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "failure.h"

namespace crisp {

class Size {
 public:
  // Implicit: a size begins as a plain number. Throws Failure when that is negative.
  Size(int64_t value) : value_(value) { require(value >= 0, kDoesNotFit); }

  int64_t value() const { return value_; }
  size_t for_memory() const {
    require(static_cast<uint64_t>(value_) <= std::numeric_limits<size_t>::max() / 2, kDoesNotFit);
    return static_cast<size_t>(value_);
  }
  // Of something that is addressed by 32 bits.
  int32_t in_32_bits() const {
    require(value_ <= std::numeric_limits<int32_t>::max(), kDoesNotFit);
    return static_cast<int32_t>(value_);
  }

  friend Size operator+(Size a, Size b) {
    require(a.value_ <= kLargest - b.value_, kDoesNotFit);
    return a.value_ + b.value_;
  }
  friend Size operator*(Size a, Size b) {
    require(a.value_ == 0 || b.value_ <= kLargest / a.value_, kDoesNotFit);
    return a.value_ * b.value_;
  }

 private:
  static constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  static constexpr const char* kDoesNotFit = "the input, with its padding, is too large for this layer";

  int64_t value_;
};

// The product of all; 0 as soon as one is 0, however large the others.
template <class Extents>
Size product(const Extents& extents) {
  for (int64_t extent : extents) {
    if (extent == 0) return 0;
  }
  Size all = 1;
  for (int64_t extent : extents) all = all * extent;
  return all;
}

inline Size product(std::initializer_list<int64_t> extents) {
  return product<std::initializer_list<int64_t>>(extents);
}

}  // namespace crisp
