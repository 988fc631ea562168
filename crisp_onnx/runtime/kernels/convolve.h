// Runs a planned layer on one input.
#pragma once

#include <cstddef>
#include <cstdint>

#include "plan.h"
#include "weight.h"

namespace crisp {

// Calls fn(user, i) for every i below total, on the host's threads.
struct Parallel {
  void* pool;
  void (*run)(void* pool, size_t total, void (*fn)(void* user, size_t i), void* user);
};

// Addresses of numbers of the plan's element type.
struct ConvCall {
  const Plan* plan;
  const Weight* weight;
  const void* x;           // (batch, Cin, height, width), or (height, Cin) where the shape has its rows first
  const void* residual;    // (batch, Cout, out_height, out_width) or null; never with rows first
  void* y;                 // likewise, or (height, Cout)
  void* scratch;           // (plan.scratch_bytes), best aligned to 64 bytes; null when that is zero
  const void* operands;    // of the element type: FloatOperands
};

void convolve(const ConvCall& call, const Parallel& parallel);

// The two halves of `convolve`, for measuring them apart. `buffer`: (plan.buffer_bytes()).
void pack_panel(const ConvCall& call, int64_t panel, void* buffer);
void compute_panel(const ConvCall& call, int64_t panel, void* buffer, int64_t first_strip, int64_t end_strip,
                   int64_t first_block_row, int64_t end_block_row);

}  // namespace crisp
