// Rows first: the greatest of a window's rows, then of its columns, both over whole rows of bytes, which compilers turn
// into vectors; then every stride-th column is kept.
#include "pool.h"

#include <algorithm>
#include <cstring>

namespace crisp {
namespace {

void raise_to(const uint8_t* other, int64_t count, uint8_t* row) {
  for (int64_t i = 0; i < count; ++i) row[i] = row[i] < other[i] ? other[i] : row[i];
}

// What max_pool needs of a plane's rows: a padded row of the greatest bytes, and the same after columns.
struct Rows {
  explicit Rows(const ConvShape& s)
      : padded_width(s.width + s.attributes.pads[1] + s.attributes.pads[3]),
        tall(static_cast<size_t>(padded_width)),
        wide(static_cast<size_t>(padded_width)) {}

  int64_t padded_width;
  std::vector<uint8_t> tall, wide;
};

void pool_row(const ConvShape& s, const uint8_t* plane, int64_t out_row, Rows* rows, uint8_t* y) {
  const ConvAttributes& a = s.attributes;
  const int64_t first = out_row * a.strides[0] - a.pads[0];
  const int64_t low = std::max<int64_t>(first, 0), high = std::min(first + s.kernel_h, s.height);
  uint8_t* tall = rows->tall.data();
  std::memset(tall, 0, rows->tall.size());
  for (int64_t row = low; row < high; ++row) raise_to(plane + row * s.width, s.width, tall + a.pads[1]);
  const int64_t windows = rows->padded_width - s.kernel_w + 1;
  uint8_t* wide = rows->wide.data();
  std::memcpy(wide, tall, static_cast<size_t>(windows));
  for (int64_t column = 1; column < s.kernel_w; ++column) raise_to(tall + column, windows, wide);
  for (int64_t j = 0; j < s.out_width; ++j) y[j] = wide[j * a.strides[1]];
}

}  // namespace

void max_pool(const ConvShape& s, const uint8_t* x, uint8_t* y, int64_t first, int64_t end) {
  Rows rows(s);
  for (int64_t plane = first; plane < end; ++plane) {
    for (int64_t i = 0; i < s.out_height; ++i) {
      pool_row(s, x + plane * s.height * s.width, i, &rows, y + (plane * s.out_height + i) * s.out_width);
    }
  }
}

}  // namespace crisp
