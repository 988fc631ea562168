// The shape of one convolution call and where packed activations lie.
#pragma once

#include <cstdint>
#include <vector>

#include "sizes.h"

namespace crisp {

constexpr int64_t kLargestExtent = int64_t{1} << 30;  // of one dimension, and of K
constexpr int64_t kLineBytes = 64;                    // of a cache

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// At least `bytes`, in an odd number of cache lines: rows so far apart spread over all sets of a cache instead of
// fighting for a few.
Size odd_lines(Size bytes);

struct ConvAttributes {
  int64_t strides[2] = {1, 1};
  int64_t pads[4] = {0, 0, 0, 0};  // top, left, bottom, right
  int64_t dilations[2] = {1, 1};
};

struct ConvShape {
  int64_t batch, cin, height, width;
  int64_t cout, kernel_h, kernel_w;
  int64_t out_height, out_width;
  ConvAttributes attributes;
  bool rows_first = false;        // x is (height, Cin) and y (height, Cout), the rows of a Gemm; width and batch are 1
};

// Throws Failure unless every attribute is in range.
void check_attributes(const ConvAttributes& attributes);

// Throws Failure when the input is smaller than the kernel, or an extent is out of range.
ConvShape conv_shape(const ConvAttributes& attributes, int64_t cout, int64_t cin, int64_t kernel_h, int64_t kernel_w,
                     int64_t batch, int64_t height, int64_t width);

// A Gemm as a 1x1 convolution whose positions are the rows. Throws Failure when they are too many.
ConvShape gemm_shape(int64_t cout, int64_t cin, int64_t rows);

// How the columns of a channel's activations lie for the inner loops.
enum class Columns {
  kInPlace,  // in the input itself: stride 1. Some taps lie beyond an edge at some positions
  kCut,      // a plane for every column phase, exactly as wide as the output; likewise
  kPhases,   // a plane for every column phase, wider by the kernel's reach: a few lanes are wasted
  kCopies,   // a plane for every kernel column, exactly as wide as the output: no lane is wasted, but more is copied
  kTurned,   // rows of a Gemm, turned: a plane of one column
};

// Where a tap of the kernel finds the activation of an output position: in which plane, how far on.
struct Tap {
  int64_t plane, rows, columns;
};

// A channel's activations as planes: per column start, one per row phase (rows that a stride visits together). A tap
// of the kernel is then one offset, and neighbouring output positions are neighbours in memory.
struct Layout {
  Columns columns = Columns::kPhases;
  int64_t pitch = 0;              // columns of a plane
  int64_t extra_rows = 0;         // rows of a plane beyond the panel's output rows
  std::vector<int32_t> row_starts, column_starts;
  std::vector<int32_t> row_plane, row_shift;        // (kernel_h)
  std::vector<int32_t> column_plane, column_shift;  // (kernel_w)

  bool in_place() const { return columns == Columns::kInPlace; }
  bool needs_masks() const { return columns == Columns::kInPlace || columns == Columns::kCut; }
  int64_t planes() const { return static_cast<int64_t>(row_starts.size() * column_starts.size()); }
  int64_t taps() const { return static_cast<int64_t>(row_plane.size() * column_plane.size()); }
  Tap tap(int64_t index) const;
  // Of the channels that are packed together, `position_bytes` a position.
  Size unit_bytes(int64_t panel_rows, int64_t position_bytes) const;
};

// Whether this shape can be laid out so: what lies beyond a plane's edge must be padding.
bool possible(const ConvShape& shape, Columns columns);

Layout conv_layout(const ConvShape& shape, Columns columns);

// Whether the tap's activation for the output at (row, column) lies inside its plane. Packed planes have their padding
// rows.
bool is_inside(const ConvShape& shape, const Layout& layout, const Tap& tap, int64_t row, int64_t column);

}  // namespace crisp
