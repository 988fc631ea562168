// The table of microkernels: what one call computes, and one row per kernel, by element type and instruction set. It
// drives dispatch, tests and benchmarks.
#pragma once

#include <cstdint>

#include "element.h"

namespace crisp {

constexpr int kMaxVectors = 16;     // widest strip of any kernel, in vectors
constexpr int kSharedLoadRows = 4;  // rows of a call from which on its multiply-adds outweigh its loads
constexpr int kPackSlackBytes = 128;  // a kernel may read or a packer may write past the end of packed planes

// Where a strip's positions lie. A strip is `kernel.vectors` vectors of neighbouring positions, then `kernel.tail`
// single positions. In padded planes some lanes fall between two output rows: `keep` has a bit per lane that is an
// output.
struct StripShape {
  int32_t start;                   // first position, counted from the panel's first
  int32_t loaded_last;             // lanes of the last vector that may be read (1 .. lanes)
  bool whole;                      // every lane of every vector is an output, and the outputs follow each other
  int32_t tail_out;                // where the first tail position is stored, counted from the panel's first output
  uint32_t keep[kMaxVectors];
  int32_t out[kMaxVectors];        // where a vector's kept lanes are stored
};

// How the activations of a step of four kept columns are found, where kernels do four at once.
enum class Steps : int {
  kPlaces,  // every column's for itself: `columns` are places in the block, `offsets` count the bytes of every column
  kPairs,   // in two units of four channels: `columns` are bytes of the first (0..3) or the second (64..67), `offsets` of
            // every unit
};

// `rows` output channels of one row group, over one strip: where everything lies. Addresses have no type and distances
// count numbers, not bytes: the kernel's element type gives both their meaning. Shapes in the terms of the format: Z
// columns of V rows a block. Where a type's kernels do four kept columns at once, the four weights of a row lie together:
// (Z / 4, V, 4).
struct StripCall {
  const void* x;                   // activations at the strip's first position
  const int32_t* offsets;          // (C * block): from x to the activations of every column of the matrix
  const int32_t* blocks;           // (block_count): kept block columns
  const uint16_t* inside;          // (taps, vectors, then one for the tail): a bit per position that lies inside the
                                   // plane; the others count as zero and are not read. Null: all may be read
  int32_t blocks_per_tap;          // of all block columns; counts only with `inside`
  const uint8_t* columns;          // (block_count, columns_per_block): places kept inside each block, or see Steps
  Steps steps;
  const uint8_t* step_units;       // (columns_per_block / 4, 2): the units of each step, counted in the block; of kPairs
  const void* values;              // first weight of these rows in their group
  int64_t block_stride;            // from the weights of one block to those of the next
  int32_t block_count;
  int32_t block;
  int32_t columns_per_block;       // Z
  int32_t vector_rows;             // V: from one column's weights to the next
  int32_t rows;                    // rows to store, the kernel's rows or fewer at the bottom edge
  const StripShape* shape;
  const void* bias;                // (kernel rows) sums, never null
  const float* scales;             // (kernel rows) of what becomes of the sums; of quantised types only
  const void* residual;            // at the panel's first output of the first row, or null
  void* y;                         // likewise
  int64_t row_stride;              // from one output channel to the next, in y and in residual
  void* partial;                   // accumulators between two calls of one strip
  // For kernels with a window, which do all groups of a block row in a call: `columns`, `values`, `bias` and y are those
  // of the first, and `rows` those of all.
  int64_t group_places;            // from one group's places to the next one's
  int64_t depth;                   // columns of the matrix: activations of a position, right before the next one's
  int64_t position_stride;         // from one position to the next, in y and in residual
  int32_t step_columns;            // of a group, kept among
  int32_t span;                    // neighbouring activations
  const void* operands;            // what the element type's kernels do to a sum: FloatOperands
  bool ask_ahead;                  // for activations: they come from beyond the first-level cache
  bool first, last;                // whether this call starts from the bias, and whether it stores to y
};

// One image's activations, packed for a panel of output rows: planes by row phase and by column offset.
struct PackCall {
  const void* x;                   // (channels, height, width)
  void* packed;
  int64_t channels, channel_stride;
  int64_t height, width;
  int64_t stride_h, stride_w;
  int64_t plane_rows, pitch;       // rows and columns of a packed plane
  int64_t first_row;               // input row of the panel's first output row at kernel row 0, before the phases
  int row_planes, column_planes;
  const int32_t* row_starts;       // (row_planes): input row of a plane's first row, from first_row
  const int32_t* column_starts;    // (column_planes): input column of a plane's first column (negative in the padding)
  const void* operands;            // as of a StripCall: what padding counts as
};

// A matrix turned: to[c * to_stride + r] becomes from[r * from_stride + c]. Where a type's kernels find several channels
// together, turning rows into planes does not part those: strides of planes count units.
struct TurnCall {
  const void* from;
  void* to;
  int64_t rows, columns;           // of `from`
  int64_t from_stride, to_stride;
  bool fill_vectors;               // behind the last row, whole vectors of `to` may be written: zeros
};

// Planes [first, end) of a depthwise convolution of bytes; plane p is of channel p % channels. A step is four taps; those
// that fill up a last step weigh nothing.
struct WindowCall {
  const uint8_t* x;                // (planes, height, width)
  uint8_t* y;                      // (planes, out_height, out_width)
  int64_t first, end, channels;
  int64_t height, width, out_height, out_width;
  int64_t top, left;               // padding
  int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  const int8_t* row_weights;       // (channels, row_steps, 4): a kernel's row begins a step,
  int64_t row_steps;
  const int8_t* flat_weights;      // (channels, flat_steps, 4): or all its taps follow each other
  int64_t flat_steps;
  const int32_t* starts;           // (channels): the bias, less what the input's zero adds to the sums
  const float* scales;             // (channels): steps of the output in a step of the sums
  int32_t x_zero, y_zero;          // the first is also what padding counts as
  // For kernels that want a plane's padding in place:
  uint8_t* padded[2];              // room for a plane, `padded_bytes` each: its rows, then kWindowSlack bytes
  int64_t padded_bytes, pitch;
  const int64_t* offsets;          // (row_steps): in a padded plane, from an output's first tap to the first of a step
};

constexpr int64_t kWindowSlack = 64;  // bytes behind a padded plane that may be read
constexpr int64_t kStepTaps = 4;

// y[i] = table[x[i]]
struct LookUpCall {
  const uint8_t* table;            // (256)
  const uint8_t* x;
  uint8_t* y;
  int64_t count;
};

enum class Isa : int {
  kPortable = 0,
  kNeon = 1,
  kNeonDot = 2,
  kAvx2 = 3,
  kAvxVnni = 4,
  kAvx512 = 5,
  kAvx512Vnni = 6,
  kAvx512Vbmi = 7,
};

using StripFunction = void (*)(const StripCall&);
using PackFunction = void (*)(const PackCall&);
using TurnFunction = void (*)(const TurnCall&);
using WindowFunction = void (*)(const WindowCall&);
using LookUpFunction = void (*)(const LookUpCall&);

struct Kernel {
  const char* name;                // type_operation_VxSTRIP__isa; STRIP counts positions
  int rows;                        // output channels of one call
  int vectors;                     // strip: vectors of `lanes` positions,
  int tail;                        // then single positions, computed across the rows
  int window;                      // neighbouring activations that a step can choose from, where a position's channels
                                   // are neighbours in memory; 0: every column's activations may lie anywhere
  int most_positions;              // with a window: up to so many rows of a Gemm this is faster than lanes of positions,
                                   // which they leave nearly empty (measured)
  StripFunction run;
};

struct KernelSet {
  Element element;
  Isa isa;
  int lanes;                       // positions of a vector
  const Kernel* kernels;
  int count;
  bool room_beside_loads;          // kernels of kSharedLoadRows and more understand `inside` and `ask_ahead`: where
                                   // multiply-adds are as fast as loads, masks and prefetches cost more than they save
  PackFunction pack;
  TurnFunction turn;               // rows of a Gemm into planes,
  TurnFunction turn_back;          // and planes of answers into rows
  WindowFunction window = nullptr;  // of int8: planes of a depthwise convolution,
  LookUpFunction look_up = nullptr;  // and a function of single bytes
  const KernelSet* of_pairs = nullptr;  // of int8: a faster set, for weights with `pairs_fit` alone
};

// The sets; which of them a library holds depends on the architecture that it is compiled for. Data, not functions: to
// list them reads no page of the code of those that do not run here.
extern const KernelSet kPortableKernels;
extern const KernelSet kPortableInt8Kernels;
extern const KernelSet kNeonKernels;
extern const KernelSet kNeonDotInt8Kernels;
extern const KernelSet kAvx2Kernels;
extern const KernelSet kAvx512Kernels;
extern const KernelSet kAvx2Int8Kernels;
extern const KernelSet kAvx2Int8PairKernels;
extern const KernelSet kAvxVnniInt8Kernels;
extern const KernelSet kAvx512VnniInt8Kernels;
extern const KernelSet kAvx512VbmiInt8Kernels;

}  // namespace crisp
