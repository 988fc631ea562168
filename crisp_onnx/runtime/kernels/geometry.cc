// Output sizes, and the planes that packed activations are laid out in.
#include "geometry.h"

#include <algorithm>

#include "failure.h"
#include "kernel_table.h"

namespace crisp {
namespace {

constexpr int64_t kLargestStep = 1 << 20;  // of a stride, pad or dilation: keeps every product far from overflow

int32_t index_of(std::vector<int32_t>* known, int32_t value) {
  const auto found = std::find(known->begin(), known->end(), value);
  if (found != known->end()) return static_cast<int32_t>(found - known->begin());
  known->push_back(value);
  return static_cast<int32_t>(known->size() - 1);
}

int64_t out_extent(int64_t in, int64_t pad_low, int64_t pad_high, int64_t kernel, int64_t dilation, int64_t stride) {
  const int64_t reach = (kernel - 1) * dilation + 1;
  const int64_t room = in + pad_low + pad_high - reach;
  require(in >= 1 && room >= 0, "the input is smaller than the kernel");
  return room / stride + 1;
}

}  // namespace

void check_attributes(const ConvAttributes& a) {
  for (int64_t s : a.strides) require(s >= 1 && s <= kLargestStep, "attribute strides is out of range");
  for (int64_t d : a.dilations) require(d >= 1 && d <= kLargestStep, "attribute dilations is out of range");
  for (int64_t p : a.pads) require(p >= 0 && p <= kLargestStep, "attribute pads is out of range");
}

ConvShape conv_shape(const ConvAttributes& a, int64_t cout, int64_t cin, int64_t kernel_h, int64_t kernel_w,
                     int64_t batch, int64_t height, int64_t width) {
  ConvShape s{batch, cin, height, width, cout, kernel_h, kernel_w, 0, 0, a};
  s.out_height = out_extent(height, a.pads[0], a.pads[2], kernel_h, a.dilations[0], a.strides[0]);
  s.out_width = out_extent(width, a.pads[1], a.pads[3], kernel_w, a.dilations[1], a.strides[1]);
  return s;
}

int64_t Layout::channel_stride(int64_t panel_rows) const {
  const int64_t floats = planes() * (panel_rows + extra_rows) * pitch + kPackSlack;
  // An odd number of cache lines: channels then spread over all sets of a cache instead of fighting for a few.
  return ((floats + 15) / 16 | 1) * 16;
}

Layout conv_layout(const ConvShape& s, bool copy_columns) {
  const ConvAttributes& a = s.attributes;
  Layout l;
  const bool padded = a.pads[0] || a.pads[1] || a.pads[2] || a.pads[3];
  l.in_place = s.kernel_h == 1 && s.kernel_w == 1 && a.strides[0] == 1 && a.strides[1] == 1 && !padded;
  std::vector<int32_t> row_plane(s.kernel_h), row_shift(s.kernel_h), column_plane(s.kernel_w), column_shift(s.kernel_w);
  int32_t reach = 0;
  for (int64_t ky = 0; ky < s.kernel_h; ++ky) {
    const int64_t row = ky * a.dilations[0];
    row_plane[ky] = index_of(&l.row_starts, static_cast<int32_t>(row % a.strides[0]));
    row_shift[ky] = static_cast<int32_t>(row / a.strides[0]);
    l.extra_rows = std::max<int64_t>(l.extra_rows, row_shift[ky]);
  }
  for (int64_t kx = 0; kx < s.kernel_w; ++kx) {
    const int64_t column = kx * a.dilations[1];
    const int64_t phase = copy_columns ? column : column % a.strides[1];
    column_plane[kx] = index_of(&l.column_starts, static_cast<int32_t>(phase - a.pads[1]));
    column_shift[kx] = copy_columns ? 0 : static_cast<int32_t>(column / a.strides[1]);
    reach = std::max(reach, column_shift[kx]);
  }
  l.pitch = s.out_width + reach;
  for (int64_t ky = 0; ky < s.kernel_h; ++ky) {
    for (int64_t kx = 0; kx < s.kernel_w; ++kx) {
      l.tap_plane.push_back(column_plane[kx] * static_cast<int32_t>(l.row_starts.size()) + row_plane[ky]);
      l.tap_shift_rows.push_back(row_shift[ky]);
      l.tap_shift_columns.push_back(column_shift[kx]);
    }
  }
  return l;
}

}  // namespace crisp
