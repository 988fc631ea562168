// Output sizes, and the planes that packed activations are laid out in.
#include "geometry.h"

#include <algorithm>
#include <unordered_map>

#include "failure.h"
#include "kernel_table.h"

namespace crisp {
namespace {

constexpr int64_t kLargestStep = 1 << 20;  // of a stride, pad or dilation: keeps every product far from overflow

// Numbers the different starts of planes in the order in which they come.
class Starts {
 public:
  explicit Starts(std::vector<int32_t>* found) : found_(found) {}

  int32_t number_of(int64_t start) {
    const auto [at, is_new] = numbers_.try_emplace(start, static_cast<int32_t>(found_->size()));
    if (is_new) found_->push_back(static_cast<int32_t>(start));
    return at->second;
  }

 private:
  std::vector<int32_t>* found_;
  std::unordered_map<int64_t, int32_t> numbers_;
};

int64_t out_extent(int64_t in, int64_t pad_low, int64_t pad_high, int64_t kernel, int64_t dilation, int64_t stride) {
  require(kernel >= 1 && kernel <= kLargestExtent, "attribute weight_shape is out of range");
  require(in <= kLargestExtent, "the input is too large");
  const int64_t reach = (kernel - 1) * dilation + 1;
  const int64_t room = in + pad_low + pad_high - reach;
  require(in >= 1 && room >= 0, "the input is smaller than the kernel");
  return room / stride + 1;
}

// Where a kernel column's plane starts in the input, and by how many of its columns the kernel column is shifted.
struct ColumnPlace {
  int64_t start, shift;
};

ColumnPlace column_place(const ConvShape& s, Columns columns, int64_t kx) {
  const int64_t stride = s.attributes.strides[1], pad = s.attributes.pads[1];
  const int64_t column = kx * s.attributes.dilations[1];
  if (columns == Columns::kCopies) return {column - pad, 0};
  if (columns == Columns::kPhases) return {column % stride - pad, column / stride};
  const int64_t phase = ((column - pad) % stride + stride) % stride;
  return {phase, (column - pad - phase) / stride};
}

}  // namespace

Size odd_lines(Size bytes) { return Size((bytes + (kLineBytes - 1)).value() / kLineBytes | 1) * kLineBytes; }

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

ConvShape gemm_shape(int64_t cout, int64_t cin, int64_t rows) {
  ConvShape s = conv_shape({}, cout, cin, 1, 1, 1, rows, 1);
  s.rows_first = rows > 1;
  return s;
}

Tap Layout::tap(int64_t index) const {
  const int64_t ky = index / static_cast<int64_t>(column_plane.size());
  const int64_t kx = index % static_cast<int64_t>(column_plane.size());
  const int64_t plane = column_plane[kx] * static_cast<int64_t>(row_starts.size()) + row_plane[ky];
  return {plane, row_shift[ky], column_shift[kx]};
}

Size Layout::unit_bytes(int64_t panel_rows, int64_t position_bytes) const {
  const Size bytes = product({planes(), panel_rows + extra_rows, pitch, position_bytes});
  return odd_lines(columns == Columns::kTurned ? bytes : bytes + kPackSlackBytes);  // turned: in whole vectors already
}

bool possible(const ConvShape& s, Columns columns) {
  const ConvAttributes& a = s.attributes;
  if (columns == Columns::kInPlace) return a.strides[0] == 1 && a.strides[1] == 1 && s.out_width <= s.width;
  if (columns != Columns::kCut) return columns != Columns::kTurned;
  for (int64_t kx = 0; kx < s.kernel_w; ++kx) {
    const ColumnPlace p = column_place(s, columns, kx);
    if (p.shift > 0 && p.start + a.strides[1] * s.out_width < s.width) return false;
  }
  return true;
}

Layout conv_layout(const ConvShape& s, Columns columns) {
  const ConvAttributes& a = s.attributes;
  Layout l;
  l.columns = columns;
  Starts rows(&l.row_starts), starts(&l.column_starts);
  for (int64_t ky = 0; ky < s.kernel_h; ++ky) {
    const int64_t row = ky * a.dilations[0], shift = row / a.strides[0] - (l.in_place() ? a.pads[0] : 0);
    l.row_plane.push_back(rows.number_of(row % a.strides[0]));
    l.row_shift.push_back(static_cast<int32_t>(shift));
    l.extra_rows = std::max(l.extra_rows, shift);
  }
  int64_t reach = 0;
  for (int64_t kx = 0; kx < s.kernel_w; ++kx) {
    const ColumnPlace p = column_place(s, columns, kx);
    l.column_plane.push_back(starts.number_of(p.start));
    l.column_shift.push_back(static_cast<int32_t>(p.shift));
    reach = std::max(reach, p.shift);
  }
  l.pitch = l.in_place() ? s.width : columns == Columns::kPhases ? s.out_width + reach : s.out_width;
  return l;
}

bool is_inside(const ConvShape& s, const Layout& l, const Tap& tap, int64_t row, int64_t column) {
  const int64_t tap_row = row + tap.rows, tap_column = column + tap.columns;
  return tap_column >= 0 && tap_column < l.pitch && (!l.in_place() || (tap_row >= 0 && tap_row < s.height));
}

}  // namespace crisp
