// How one layer runs at one input shape: layout, panels, strips and the division of work. Built once, then only read.
#pragma once

#include <cstdint>
#include <vector>

#include "geometry.h"
#include "kernel_table.h"
#include "weight.h"

namespace crisp {

constexpr int64_t kMostStripsPerChunk = 16;

struct Strip {
  const Kernel* kernel;
  StripShape shape;
  int64_t inside_at;                // of the plan's `inside`; negative where all may be read
  int64_t positions;
};

struct Plan {
  ConvShape shape;
  Layout layout;
  const KernelSet* kernels;
  int64_t kernel_rows;              // rows of one microkernel call; divides V
  int64_t row_stride;               // between two output channels where the kernels store them
  int64_t channel_stride;           // positions between two channels of a panel (or of the input, in place), or between
                                    // two units of channels that are packed together
  int64_t panel_rows;               // output rows of a panel; a panel is packed and computed as one
  int64_t panels_per_image;
  int64_t panel_bytes;              // scratch of a packed panel,
  int64_t front_bytes;              // of them before its first plane: a kernel may read a few bytes back
  int64_t tile_bytes;               // of a block row's sums over a strip that wait to be turned; else zero
  int64_t blocks_per_call;          // block columns a call does before the next group of rows gets its turn
  int64_t strips_per_chunk;         // strips that a block row does before the next block row gets its turn
  bool ask_ahead;                   // for activations: they come from far
  std::vector<int32_t> offsets;     // (C * block), in activations, or as Steps says
  std::vector<uint16_t> inside;     // per strip and tap, a bit per position (see StripCall)
  std::vector<Strip> strips;        // of a full panel
  std::vector<Strip> last_strips;   // of an image's last panel, where it has fewer rows; else empty
  int64_t items, row_items, strip_items;  // work items: items = panels * strip_items * row_items
  int64_t worth_entering;           // items left in a begun panel for which another thread packs it too
  int64_t places;                   // of threads that may work at once, with a buffer each
  int64_t scratch_bytes;

  bool by_rows() const { return strips.front().kernel->window > 0; }  // strips are positions with their channels side by side
  bool is_turned() const { return layout.columns == Columns::kTurned; }
  const ElementType& element() const { return element_type(kernels->element); }
  int64_t buffer_bytes() const { return panel_bytes + tile_bytes; }  // a panel, then a tile
  int64_t panels() const { return shape.batch * panels_per_image; }
  int64_t positions() const { return shape.out_height * shape.out_width; }  // of an output channel
  int64_t items_per_panel() const { return strip_items * row_items; }
  const std::vector<Strip>& strips_of(int64_t panel) const {
    const bool is_last = panel % panels_per_image == panels_per_image - 1;
    return is_last && !last_strips.empty() ? last_strips : strips;
  }
};

// Throws Failure when the input is so large that a size or an offset would not fit: what the driver computes from a plan
// needs no check of its own. The kernels are those of `set`, or the faster ones of pairs where the weights allow them.
Plan make_plan(const Weight& weight, const ConvShape& shape, const KernelSet& set);

// Rows of one microkernel call for groups of `vector_rows` rows.
int64_t kernel_rows(const KernelSet& kernels, int64_t vector_rows);

// The kept columns that a kernel with a window does in a step; 0 where it cannot do the weight's pattern.
int32_t step_columns(const Kernel& kernel, const Weight& weight);

// Strips of kernels with a window over positions whose channels are neighbours in memory; none where the set has no such
// kernels for the weight's pattern. Positions times Cin or Cout must fit 32 bits.
std::vector<Strip> choose_row_strips(const KernelSet& kernels, const Weight& weight, int64_t positions);

// The kernel of a layer's first strip, whatever its pattern; of a Gemm when it has its rows first.
const Kernel* main_kernel(const KernelSet& kernels, int64_t vector_rows, int64_t positions, bool rows_first);

// The cheapest sequence of strips over `positions` neighbouring positions. `dense`: every position is an output.
std::vector<Strip> choose_strips(const KernelSet& kernels, int64_t kernel_rows, int64_t positions, bool dense);

}  // namespace crisp
