// Drives the microkernels: packs panels, walks strips and block rows, divides the work among the host's threads.
#include "convolve.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <vector>

#include "claims.h"
#include "failure.h"
#include "isa.h"

namespace crisp {
namespace {

constexpr int64_t kPartialBytes = 64 << 10;  // of accumulators kept between two calls of a block row's groups

const void* advance(const void* p, int64_t bytes) { return static_cast<const char*>(p) + bytes; }
void* advance(void* p, int64_t bytes) { return static_cast<char*>(p) + bytes; }

int64_t partial_bytes(const Plan& p, const Strip& strip) {
  return p.kernel_rows * strip.kernel->vectors * p.kernels->lanes * p.element().sum_bytes;
}

// Accumulators of vectors alone can wait for another call.
bool has_room_for_partial(const Plan& p, const Weight& w, const Strip& strip) {
  return strip.kernel->tail == 0 && w.block / p.kernel_rows * partial_bytes(p, strip) <= kPartialBytes;
}

// Where a strip's sums go: into y, or into the tile behind the packed panel.
StripCall strip_call(const ConvCall& call, const Strip& strip, int64_t panel, void* buffer, void* partial) {
  const Plan& p = *call.plan;
  const Weight& w = *call.weight;
  const int64_t image = panel / p.panels_per_image;
  const int64_t first_row = panel % p.panels_per_image * p.panel_rows;
  const int64_t positions = p.positions();
  const int64_t each = p.element().activation_bytes;
  const int64_t y_at = (image * w.cout * positions + first_row * p.shape.out_width) * each;
  const void* activations =
      p.layout.in_place() ? advance(call.x, image * w.cin * p.channel_stride * each) : advance(buffer, p.front_bytes);
  StripCall s{};
  s.x = advance(activations, strip.shape.start * p.element().unit_bytes());
  s.offsets = p.offsets.data();
  s.inside = strip.inside_at < 0 ? nullptr : p.inside.data() + strip.inside_at;
  s.blocks_per_tap = static_cast<int32_t>(w.blocks_per_tap());
  s.block_stride = w.groups * w.columns * w.vector_rows;
  s.block = static_cast<int32_t>(w.block);
  s.columns_per_block = static_cast<int32_t>(w.columns);
  s.steps = w.steps;
  s.step_units = w.step_units.data();
  s.vector_rows = static_cast<int32_t>(w.vector_rows);
  s.shape = &strip.shape;
  s.residual = call.residual ? advance(call.residual, y_at) : nullptr;
  s.y = p.is_turned() ? advance(buffer, p.panel_bytes) : advance(call.y, y_at);
  s.ask_ahead = p.ask_ahead;
  s.row_stride = p.row_stride;
  s.operands = call.operands;
  s.partial = partial;
  return s;
}

// A whole block row at positions whose channels are neighbours.
void block_row_call(const ConvCall& call, const Strip& strip, int64_t r, StripCall s) {
  const Plan& p = *call.plan;
  const Weight& w = *call.weight;
  const int64_t row = r * w.block;
  s.blocks = w.blocks.data() + r * w.kept;
  s.block_count = static_cast<int32_t>(w.kept);
  s.columns = w.places.data() + row / w.vector_rows * w.kept * w.columns;
  s.values = advance(w.values, r * w.kept * w.block * w.columns * p.element().weight_bytes);
  s.rows = static_cast<int32_t>(std::min(w.block, w.cout - row));
  s.bias = advance(w.sums(), row * p.element().sum_bytes);
  const int64_t row_bytes = s.row_stride * p.element().activation_bytes;
  s.y = advance(s.y, row * row_bytes);
  if (s.residual) s.residual = advance(s.residual, row * row_bytes);
  s.group_places = w.kept * w.columns;
  s.depth = w.depth;
  s.position_stride = w.cout;
  s.step_columns = step_columns(*strip.kernel, w);
  s.span = static_cast<int32_t>(s.step_columns / w.n * w.m);
  strip.kernel->run(s);
}

// Distances of a layer in bytes, worked out once for many short calls: from one call's rows, and from one group, to the
// next.
struct Distances {
  explicit Distances(const Plan& p, const Weight& w)
      : values(p.kernel_rows * p.element().weight_bytes * p.element().together),
        bias(p.kernel_rows * p.element().sum_bytes),
        y(p.kernel_rows * p.row_stride * p.element().activation_bytes),
        group_values(w.columns * w.vector_rows * p.element().weight_bytes),
        group_places(w.kept * w.columns),
        block_row_bias(w.block * p.element().sum_bytes),
        block_row_y(p.is_turned() ? 0 : w.block * p.row_stride * p.element().activation_bytes) {}  // a tile holds one

  const int64_t values, bias, y, group_values, group_places, block_row_bias, block_row_y;
};

// All groups of one block row over the kept blocks first..end of it. `s` is changed in place, field by field: a copy of
// it would have to wait until the processor has written out the strip before.
void block_row_calls(const ConvCall& call, const Strip& strip, const Distances& step, int64_t r, Range blocks,
                     int64_t next_partial, StripCall* s) {
  const Weight& w = *call.weight;
  const int64_t rows = call.plan->kernel_rows;
  void* const partial = s->partial;
  void* const y = s->y;
  const void* const residual = s->residual;
  const uint8_t* places = w.places.data() + r * w.groups * step.group_places + blocks.first * w.columns;
  const void* values = advance(w.values, (r * w.kept + blocks.first) * w.groups * step.group_values);
  int64_t row = r * w.block;
  s->blocks = w.blocks.data() + r * w.kept + blocks.first;
  s->block_count = static_cast<int32_t>(blocks.end - blocks.first);
  s->first = blocks.first == 0;
  s->last = blocks.end == w.kept;
  const void* bias = advance(w.sums(), r * step.block_row_bias);
  s->scales = w.scales.empty() ? nullptr : w.scales.data() + row;
  void* rows_of_y = advance(y, r * step.block_row_y);
  const void* rows_of_residual = residual ? advance(residual, r * step.block_row_y) : nullptr;
  for (int64_t g = 0; g < w.groups; ++g) {
    s->columns = places;
    const void* values_of_rows = values;
    for (int64_t v = 0; v < w.vector_rows && row < w.cout; v += rows, row += rows) {
      s->rows = static_cast<int32_t>(std::min(rows, w.cout - row));
      s->values = values_of_rows;
      s->bias = bias;
      s->y = rows_of_y;
      s->residual = rows_of_residual;
      strip.kernel->run(*s);
      values_of_rows = advance(values_of_rows, step.values);
      bias = advance(bias, step.bias);
      if (s->scales) s->scales += rows;
      rows_of_y = advance(rows_of_y, step.y);
      if (residual) rows_of_residual = advance(rows_of_residual, step.y);
      s->partial = advance(s->partial, next_partial);
    }
    places += step.group_places;
    values = advance(values, step.group_values);
  }
  s->partial = partial;
  s->y = y;
  s->residual = residual;
}

// The rows of y that a tile of sums holds, turned: a cache line a position where a block has 16 rows.
void turn_tile(const ConvCall& call, const Strip& strip, int64_t panel, int64_t r, void* buffer) {
  const Plan& p = *call.plan;
  const Weight& w = *call.weight;
  const int64_t first = panel * p.panel_rows + strip.shape.start;
  // Beyond the panel's end the tile holds nothing, and the rows of y there are another thread's.
  const int64_t end = std::min((panel + 1) * p.panel_rows, p.shape.out_height);
  TurnCall turn{};
  turn.from = advance(buffer, p.panel_bytes);
  turn.to = advance(call.y, (first * w.cout + r * w.block) * p.element().activation_bytes);
  turn.rows = std::min(w.block, w.cout - r * w.block);
  turn.columns = std::min(strip.positions, end - first);
  turn.from_stride = p.row_stride;
  turn.to_stride = w.cout;
  p.kernels->turn_back(turn);
}

struct Work {
  const ConvCall* call;
  Claims claims;
  std::atomic<bool> out_of_memory{false};
};

// Packs rows of a Gemm: a plane a channel.
void turn_rows(const ConvCall& call, int64_t panel, void* packed) {
  const Plan& p = *call.plan;
  const int64_t first = panel * p.panel_rows;
  TurnCall turn{};
  turn.from = advance(call.x, first * p.shape.cin * p.element().activation_bytes);
  turn.to = advance(packed, p.front_bytes);
  turn.rows = std::min(p.panel_rows, p.shape.height - first);
  turn.columns = p.shape.cin;
  turn.from_stride = p.shape.cin;
  turn.to_stride = p.channel_stride;
  turn.fill_vectors = true;
  p.kernels->turn(turn);
}

// A thread's own packed panel. It packs what it computes on even where another has packed the same: data that one core
// wrote and another reads would have to move between their caches, which takes longer than packing twice.
struct PackedPanel {
  int64_t panel = -1;
  void* at = nullptr;
  std::vector<char> spare;  // of a thread beyond the places: more threads than cores
};

// The place's buffer is the same in every layer, and so in this core's cache already.
void* own_buffer(const ConvCall& call, int64_t place, std::vector<char>* spare) {
  const Plan& p = *call.plan;
  if (place < p.places) return advance(call.scratch, place * p.buffer_bytes());
  spare->resize(static_cast<size_t>(p.buffer_bytes()));
  return spare->data();
}

void compute_item(const ConvCall& call, int64_t item, int64_t place, PackedPanel* packed) {
  const Plan& p = *call.plan;
  const int64_t panel = item / p.items_per_panel();
  if (packed->panel != panel && !p.layout.in_place()) {
    if (!packed->at) packed->at = own_buffer(call, place, &packed->spare);
    pack_panel(call, panel, packed->at);
  }
  packed->panel = panel;
  const int64_t strips = static_cast<int64_t>(p.strips_of(panel).size());
  const Range strip = share(strips, p.strip_items, item / p.row_items % p.strip_items);
  const Range rows = share(call.weight->block_rows, p.row_items, item % p.row_items);
  compute_panel(call, panel, packed->at, strip.first, strip.end, rows.first, rows.end);
}

void take_part(void* user, size_t) {
  Work& work = *static_cast<Work*>(user);
  const int64_t place = work.claims.take_place(work.call->plan->places);
  if (place < 0) return;
  PackedPanel packed;
  try {
    for (Range items = work.claims.next(place, -1); items.first < items.end;
         items = work.claims.next(place, packed.panel)) {
      for (int64_t item = items.first; item < items.end; ++item) compute_item(*work.call, item, place, &packed);
    }
  } catch (const std::bad_alloc&) {  // must not pass through the runtime's threads
    work.out_of_memory = true;
  }
  clear_upper_halves(work.call->plan->kernels->isa);
}

}  // namespace

void pack_panel(const ConvCall& call, int64_t panel, void* buffer) {
  const Plan& p = *call.plan;
  const ConvShape& s = p.shape;
  if (p.is_turned()) return turn_rows(call, panel, buffer);
  const int64_t image = panel / p.panels_per_image;
  PackCall pack{};
  pack.x = advance(call.x, image * s.cin * s.height * s.width * p.element().activation_bytes);
  pack.packed = advance(buffer, p.front_bytes);
  pack.operands = call.operands;
  pack.channels = s.cin;
  pack.channel_stride = p.channel_stride;
  pack.height = s.height;
  pack.width = s.width;
  pack.stride_h = s.attributes.strides[0];
  pack.stride_w = s.attributes.strides[1];
  pack.plane_rows = p.panel_rows + p.layout.extra_rows;
  pack.pitch = p.layout.pitch;
  pack.first_row = panel % p.panels_per_image * p.panel_rows * pack.stride_h - s.attributes.pads[0];
  pack.row_planes = static_cast<int>(p.layout.row_starts.size());
  pack.column_planes = static_cast<int>(p.layout.column_starts.size());
  pack.row_starts = p.layout.row_starts.data();
  pack.column_starts = p.layout.column_starts.data();
  p.kernels->pack(pack);
}

void compute_panel(const ConvCall& call, int64_t panel, void* buffer, int64_t first_strip, int64_t end_strip,
                   int64_t first_block_row, int64_t end_block_row) {
  const Plan& p = *call.plan;
  const Weight& w = *call.weight;
  const std::vector<Strip>& strips = p.strips_of(panel);
  const Distances distances(p, w);
  const bool by_rows = p.by_rows(), is_turned = p.is_turned();
  alignas(kLineBytes) char partial[kPartialBytes];
  StripCall calls[kMostStripsPerChunk];
  for (int64_t chunk = first_strip; chunk < end_strip; chunk += p.strips_per_chunk) {
    const int64_t count = std::min(p.strips_per_chunk, end_strip - chunk);
    for (int64_t i = 0; i < count; ++i) calls[i] = strip_call(call, strips[chunk + i], panel, buffer, partial);
    for (int64_t r = first_block_row; r < end_block_row; ++r) {
      for (int64_t i = 0; i < count; ++i) {
        const Strip& strip = strips[chunk + i];
        if (by_rows) {
          block_row_call(call, strip, r, calls[i]);
        } else if (p.blocks_per_call >= w.kept || !has_room_for_partial(p, w, strip)) {
          block_row_calls(call, strip, distances, r, {0, w.kept}, 0, &calls[i]);
        } else {
          for (int64_t b = 0; b < w.kept; b += p.blocks_per_call) {
            const Range blocks{b, std::min(b + p.blocks_per_call, w.kept)};
            block_row_calls(call, strip, distances, r, blocks, partial_bytes(p, strip), &calls[i]);
          }
        }
        if (is_turned) turn_tile(call, strip, panel, r, buffer);
      }
    }
  }
}

void convolve(const ConvCall& call, const Parallel& parallel) {
  const Plan& p = *call.plan;
  if (p.panels() == 0) return;
  Work work{&call, {p.items, p.items_per_panel(), p.worth_entering}};
  parallel.run(parallel.pool, static_cast<size_t>(work.claims.count()), take_part, &work);
  require(!work.out_of_memory, "there is not enough memory for the packed activations");
}

}  // namespace crisp
