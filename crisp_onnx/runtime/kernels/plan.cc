// Decides layout, panels, strips and the division of work from the shapes alone, never from the number of threads:
// the order in which an output is summed is then the same on every machine with the same instruction set.
#include "plan.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <thread>
#include <utility>

#include "failure.h"

namespace crisp {
namespace {

constexpr int64_t kPanelNumbers = 192 << 10;    // packed activations of a panel: float32 fills most of a usual second-level
                                                // cache; bytes are as fast in less, and smaller panels take less memory
constexpr int64_t kHalfPositions = 96;          // of a panel: fewer leave lanes idle
constexpr int64_t kMuchWider = 2;               // an output than its input, in channels
constexpr int64_t kSmallPlaneBytes = 1 << 10;   // of an output channel
constexpr int64_t kMostItems = 32;
constexpr int64_t kMostPlaces = 64;
constexpr int64_t kItemMacs = 600000;           // about ten microseconds of one core,
constexpr int64_t kItemBytes = 128 << 10;       // and so is reading this much of the weights
constexpr int64_t kSmallItemMacs = 150000;      // what a second thread is worth waking for, in layers of
constexpr int64_t kFewItems = 4;                // few items
constexpr int64_t kFirstLevelBytes = 32 << 10;  // of the first-level cache,
constexpr int64_t kBlocksBytes = 24 << 10;      // and what of it the activations of a few block columns may take
constexpr int64_t kSecondLevelBytes = 1 << 20;
constexpr int64_t kChunkBytes = 192 << 10;      // of activations, for the strips of a chunk
constexpr double kMacsPerByte = 2.5;            // multiply-adds in the time that packing writes one byte
constexpr double kMostMarks = 1 << 28;          // of positions inside: half a second of planning, and 50 MB

// Estimates are made in floating point, where nothing wraps; sizes that address memory, in Size.
double real(int64_t number) { return static_cast<double>(number); }

const ElementType& element_of(const KernelSet& kernels) { return element_type(kernels.element); }

// Bytes of one activation.
int64_t bytes_of(const KernelSet& kernels) { return element_of(kernels).activation_bytes; }

// Whether threads had better share out the output channels than the positions. Two that write neighbouring positions
// meet in a line of every channel, which goes from one core to the other: it is felt where a channel has few. Two that
// share out the channels read the same input, which must be the smaller for that.
bool shares_channels(const ConvShape& s, const ElementType& element) {
  const int64_t plane_bytes = product({s.out_height, s.out_width, element.activation_bytes}).value();
  return !s.rows_first && s.kernel_h * s.kernel_w == 1 && s.cout >= kMuchWider * s.cin && plane_bytes <= kSmallPlaneBytes;
}

// Output rows of a panel in this layout: equal shares of the image that fit. An even number of them where the image is
// large enough, so that two threads need not both pack the same.
int64_t panel_rows(const ConvShape& s, const Layout& l, const ElementType& element) {
  const double row_bytes =
      real(element.unit_bytes()) * real(element.units(s.cin)) * real(l.planes()) * real(l.pitch);
  const double panel_bytes = real(kPanelNumbers) * real(element.activation_bytes);
  const int64_t fit = static_cast<int64_t>(panel_bytes / row_bytes) - l.extra_rows;
  int64_t panels = ceil_div(s.out_height, std::clamp<int64_t>(fit, 1, s.out_height));
  const bool large = product({s.out_height, s.out_width}).value() / kHalfPositions > panels;
  if (large && !(panels == 1 && shares_channels(s, element))) panels = ceil_div(panels, 2) * 2;
  return ceil_div(s.out_height, panels);
}

// Copies waste no lane but write the activations kernel_w times; phases write them once.
bool copies_are_cheaper(const Weight& w, const ConvShape& s, const ElementType& element) {
  const Layout copies = conv_layout(s, Columns::kCopies), phases = conv_layout(s, Columns::kPhases);
  if (copies.pitch == phases.pitch) return false;
  const auto cost = [&](const Layout& l) {
    const int64_t rows = panel_rows(s, l, element), panels = ceil_div(s.out_height, rows);
    const double plane_bytes = real(rows + l.extra_rows) * real(l.pitch) * real(element.unit_bytes());
    const double units = real(element.units(s.cin));
    const double bytes = real(panels) * units * (real(l.planes()) * plane_bytes + kPackSlackBytes);
    return real(s.out_height) * real(l.pitch) * w.macs_per_position() + bytes * kMacsPerByte;
  };
  return cost(copies) < cost(phases);
}

// Masked loads need no packing, or the least; only they can leave out what lies beyond an edge.
Columns choose_columns(const Weight& w, const ConvShape& s, const KernelSet& kernels) {
  if (s.rows_first) return Columns::kTurned;
  const int64_t* pads = s.attributes.pads;
  const bool point = w.kernel_h * w.kernel_w == 1;
  const bool padded = pads[0] || pads[1] || pads[2] || pads[3];
  const double marks = real(s.out_height) * real(s.out_width) * real(w.kernel_h) * real(w.kernel_w);
  const bool masked = kernels.room_beside_loads && kernel_rows(kernels, w.vector_rows) >= kSharedLoadRows &&
                      (point || w.cin % w.block == 0) && marks <= kMostMarks &&
                      (element_of(kernels).together == 1 || w.steps == Steps::kPairs);
  const bool readable = element_of(kernels).reads_in_place;
  if (readable && (masked || (point && !padded)) && possible(s, Columns::kInPlace)) return Columns::kInPlace;
  if (masked && possible(s, Columns::kCut)) return Columns::kCut;
  return copies_are_cheaper(w, s, element_of(kernels)) ? Columns::kCopies : Columns::kPhases;
}

// A bit for every position of the strip that is an output and whose tap lies inside its plane.
std::vector<uint16_t> positions_inside(const Plan& p, const Strip& strip, int64_t rows) {
  const int64_t pitch = p.layout.pitch, lanes = p.kernels->lanes;
  std::vector<uint16_t> bits;
  for (int64_t t = 0; t < p.layout.taps(); ++t) {
    const Tap tap = p.layout.tap(t);
    for (int64_t j = 0; j <= strip.kernel->vectors; ++j) {
      const int64_t first = strip.shape.start + j * lanes;
      const int64_t count = j < strip.kernel->vectors ? lanes : strip.kernel->tail;
      uint32_t inside = 0;
      for (int64_t q = first; q < first + count; ++q) {
        const int64_t row = q / pitch, column = q % pitch;
        const bool read =
            row < rows && column < p.shape.out_width && is_inside(p.shape, p.layout, tap, row, column);
        inside |= uint32_t{read} << (q - first);
      }
      bits.push_back(static_cast<uint16_t>(inside));
    }
  }
  return bits;
}

// Only a strip with a tap that must not be read somewhere gets an `inside`.
void mark_inside(Plan* p, int64_t rows, std::vector<Strip>* strips) {
  if (!p->kernels->room_beside_loads || !p->layout.needs_masks()) return;
  for (Strip& strip : *strips) {
    bool all = true;
    const std::vector<uint16_t> bits = positions_inside(*p, strip, rows);
    const size_t each = static_cast<size_t>(strip.kernel->vectors) + 1;
    const uint32_t full = (1u << p->kernels->lanes) - 1, tail = (1u << strip.kernel->tail) - 1;
    for (size_t i = 0; i < bits.size(); ++i) all = all && bits[i] == (i % each == each - 1 ? tail : full);
    if (all) continue;
    strip.inside_at = static_cast<int64_t>(p->inside.size());
    p->inside.insert(p->inside.end(), bits.begin(), bits.end());
  }
}

// A tile's rows have room for whole vectors.
void place_outputs_in_tile(const Plan& p, std::vector<Strip>* strips) {
  const int64_t lanes = p.kernels->lanes;
  for (Strip& strip : *strips) {
    strip.shape.whole = true;
    strip.shape.loaded_last = static_cast<int32_t>(lanes);
    strip.shape.tail_out = static_cast<int32_t>(strip.kernel->vectors * lanes);
    for (int64_t j = 0; j < strip.kernel->vectors; ++j) {
      strip.shape.keep[j] = static_cast<uint32_t>((uint64_t{1} << lanes) - 1);
      strip.shape.out[j] = static_cast<int32_t>(j * lanes);
    }
  }
}

void place_outputs(const Plan& p, int64_t rows, std::vector<Strip>* strips) {
  if (p.is_turned()) return place_outputs_in_tile(p, strips);
  const int64_t width = p.shape.out_width, pitch = p.layout.pitch, lanes = p.kernels->lanes;
  const auto output_at = [&](int64_t q) { return q / pitch * width + q % pitch; };
  for (Strip& strip : *strips) {
    StripShape& s = strip.shape;
    s.whole = pitch == width;
    for (int64_t j = 0; j < strip.kernel->vectors; ++j) {
      s.keep[j] = 0;
      s.out[j] = 0;
      for (int64_t lane = lanes - 1; lane >= 0; --lane) {
        const int64_t q = s.start + j * lanes + lane;
        if (q / pitch >= rows || q % pitch >= width) continue;
        s.keep[j] |= 1u << lane;
        s.out[j] = static_cast<int32_t>(output_at(q));
      }
      s.whole = s.whole && s.keep[j] == (uint32_t{1} << lanes) - 1;
    }
    const int64_t tail = s.start + strip.kernel->vectors * lanes;
    s.tail_out = static_cast<int32_t>(output_at(tail));
    // Packed planes have slack behind them; the input itself may end at the last position.
    if (!p.layout.in_place()) s.loaded_last = static_cast<int32_t>(lanes);
  }
}

std::vector<Strip> panel_strips(Plan* p, int64_t rows) {
  const int64_t width = p->shape.out_width, pitch = p->layout.pitch;
  const int64_t positions = rows * pitch - (pitch - width);
  std::vector<Strip> strips = choose_strips(*p->kernels, p->kernel_rows, positions, pitch == width);
  place_outputs(*p, rows, &strips);
  mark_inside(p, rows, &strips);
  return strips;
}

// A few rows of a Gemm, or one position of a convolution, are done by kernels that read their channels where they lie.
// Returns no strips where that cannot be.
std::vector<Strip> row_strips(const Weight& w, const ConvShape& s, const KernelSet& kernels) {
  const int64_t positions = s.height * s.width, most = std::numeric_limits<int32_t>::max();
  const bool from_the_first = s.attributes.pads[0] == 0 && s.attributes.pads[1] == 0;
  const bool same_positions =
      from_the_first && w.kernel_h * w.kernel_w == 1 && s.out_height == s.height && s.out_width == s.width;
  if (!same_positions || !(positions == 1 || s.rows_first) || std::max(w.cin, w.cout) > most / positions) return {};
  return choose_row_strips(kernels, w, positions);
}

void take_rows(std::vector<Strip> strips, Plan* p) {
  p->layout = conv_layout(p->shape, Columns::kInPlace);
  p->panel_rows = p->shape.out_height;
  p->panels_per_image = 1;
  p->row_stride = p->channel_stride = 1;
  p->strips = std::move(strips);
}

void choose_panels(const Weight& w, Plan* p) {
  const ConvShape& s = p->shape;
  if (p->layout.in_place()) {
    p->panel_rows = s.out_height;
    p->channel_stride = product({s.height, s.width}).value();
    p->panel_bytes = 0;
  } else {
    const ElementType& element = p->element();
    p->panel_rows = panel_rows(s, p->layout, element);
    const Size unit_bytes = p->layout.unit_bytes(p->panel_rows, element.unit_bytes());
    p->channel_stride = unit_bytes.value() / element.unit_bytes();
    p->front_bytes = element.together > 1 ? kLineBytes : 0;
    p->panel_bytes = (unit_bytes * element.units(w.cin) + p->front_bytes + kPackSlackBytes).value();
  }
  p->panels_per_image = ceil_div(s.out_height, p->panel_rows);
  p->row_stride = p->positions();
}

// Whatever the driver adds to an address or divides among threads.
void check_sizes(const Plan& p) {
  const ConvShape& s = p.shape;
  const int64_t each = p.element().activation_bytes;
  product({s.batch, s.cin, s.height, s.width, each}).for_memory();
  product({s.batch, s.cout, s.out_height, s.out_width, each}).for_memory();
  const ElementType& element = p.element();
  product({element.units(s.cin) + 1, p.channel_stride, element.together}).in_32_bits();  // offsets
  product({p.panel_rows + 1, std::max(p.layout.pitch, s.out_width)}).in_32_bits();  // positions of a panel
  product({s.batch, p.panels_per_image, kMostPlaces, kMostPlaces});                  // items, and their shares
}

void choose_tile(const Weight& w, Plan* p) {
  if (!p->is_turned()) return;
  int64_t widest = 0;
  for (const Strip& strip : p->strips) widest = std::max(widest, strip.positions);
  for (const Strip& strip : p->last_strips) widest = std::max(widest, strip.positions);  // fewer rows, perhaps wider
  const int64_t each = p->element().activation_bytes;
  const Size row_bytes = odd_lines(Size(widest) * each);
  p->row_stride = row_bytes.value() / each;
  p->tile_bytes = (row_bytes * w.block).value();
}

void fill_offsets(const Weight& w, Plan* p) {
  const Layout& l = p->layout;
  const int64_t plane = (p->panel_rows + l.extra_rows) * l.pitch;
  const int64_t together = p->element().together, step = w.steps == Steps::kPairs ? together : 1;
  p->offsets.resize(product({w.block_columns, w.block_offsets()}).for_memory());
  size_t k = 0;
  for (int64_t t = 0; t < l.taps(); ++t) {
    const Tap tap = l.tap(t);
    const int64_t offset = (tap.plane * plane + tap.rows * l.pitch + tap.columns) * together;
    // With masks, a tap that lies inside nowhere may be further away than fits. It is never read.
    const int64_t panel = p->element().units(w.cin) * p->channel_stride * together;
    const bool fits = std::abs(offset) <= std::numeric_limits<int32_t>::max() - panel;
    for (int64_t channel = 0; channel < w.cin; channel += step, ++k) {
      const int64_t in_plane = channel / together * together * p->channel_stride + channel % together;
      p->offsets[k] = static_cast<int32_t>(in_plane + (fits ? offset : 0));
    }
  }
  // The columns that pad K have zero weights, but are read: where the masks of column 0 allow it, and as it is.
  std::fill(p->offsets.begin() + static_cast<int64_t>(k), p->offsets.end(), p->offsets.front());
}

// With few rows per load the first-level cache decides: a few block columns serve all groups of a block row before
// the next.
int64_t blocks_per_call(const Weight& w, const Plan& p) {
  if (p.kernel_rows > 2 || w.groups < 4 || p.by_rows()) return w.kept;
  const int64_t strip_bytes = bytes_of(*p.kernels) * p.kernels->lanes * std::max(p.strips.front().kernel->vectors, 1);
  return std::clamp<int64_t>(kBlocksBytes / (strip_bytes * w.block), 1, w.kept);
}

// Neighbouring strips of one block row write neighbouring outputs and reuse its weights; the activations under them
// must stay in the second-level cache until the last block row has had them.
int64_t strips_per_chunk(const Weight& w, const Plan& p) {
  const int64_t strip_bytes =
      bytes_of(*p.kernels) * p.kernels->lanes * std::max(p.strips.front().kernel->vectors, 1);
  return std::clamp<int64_t>(kChunkBytes / (strip_bytes * w.cin), 1, kMostStripsPerChunk);
}

// Whether the inner loops find activations in the first-level cache without asking: those of a strip stay there, and
// the next strip's come from no further than the second.
bool stays_close(const Weight& w, const Plan& p) {
  const int64_t each = bytes_of(*p.kernels);
  const int64_t widest_bytes = each * p.strips.front().kernel->vectors * p.kernels->lanes + kLineBytes;
  return widest_bytes * w.cin <= kFirstLevelBytes &&
         product({each, w.cin, p.shape.height, p.shape.width}).value() <= kSecondLevelBytes;
}

// An even number, so that two threads end together.
int64_t wanted_items(double macs, double weight_bytes) {
  const double items = std::max({macs / real(kItemMacs), weight_bytes / real(kItemBytes),
                                 std::min(macs / real(kSmallItemMacs), real(kFewItems))});
  return items < 2 ? 1 : ceil_div(static_cast<int64_t>(std::min(items, real(kMostItems))), 2) * 2;
}

void divide_work(const Weight& w, Plan* p) {
  const double macs = real(p->shape.batch) * real(p->positions()) * w.macs_per_position();
  // What finds several channels together multiplies as many at once.
  const double time_macs = macs / real(p->element().together);
  const int64_t wanted = wanted_items(time_macs, real(p->element().weight_bytes) * w.macs_per_position());
  const int64_t per_panel = ceil_div(wanted, std::max<int64_t>(p->panels(), 1));  // no panels in an empty batch
  // A strip without whole vectors is too little for an item: the item before takes it too.
  const int64_t strips = static_cast<int64_t>(p->strips.size());
  const int64_t wide_strips = strips - (strips > 1 && p->strips.back().kernel->vectors == 0);
  if (p->by_rows() || shares_channels(p->shape, p->element())) {
    p->row_items = std::min(w.block_rows, per_panel);
    p->strip_items = p->by_rows() ? 1 : std::min(wide_strips, ceil_div(per_panel, p->row_items));
  } else {
    p->strip_items = std::min(wide_strips, per_panel);
    p->row_items = std::min(w.block_rows, ceil_div(per_panel, p->strip_items));
  }
  p->items = p->panels() * p->items_per_panel();
  const double pack_items = kMacsPerByte * real(p->panel_bytes) * real(p->items) / std::max(macs, 1.0);
  p->worth_entering = static_cast<int64_t>(std::min(2 * pack_items, real(kMostPlaces)));
  const int64_t cores = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, kMostPlaces);
  p->places = p->layout.in_place() ? cores : std::min(p->items, cores);
  p->scratch_bytes = product({p->places, p->buffer_bytes()}).value();
}

}  // namespace

Plan make_plan(const Weight& weight, const ConvShape& shape, const KernelSet& set) {
  const KernelSet& kernels = weight.pairs_fit && set.of_pairs ? *set.of_pairs : set;
  Plan p{};
  p.shape = shape;
  p.kernels = &kernels;
  p.kernel_rows = kernel_rows(kernels, weight.vector_rows);
  if (std::vector<Strip> rows = row_strips(weight, shape, kernels); !rows.empty()) {
    take_rows(std::move(rows), &p);
    check_sizes(p);
  } else {
    p.layout = conv_layout(shape, choose_columns(weight, shape, kernels));
    choose_panels(weight, &p);
    check_sizes(p);
    fill_offsets(weight, &p);
    p.strips = panel_strips(&p, p.panel_rows);
    const int64_t last_rows = shape.out_height - (p.panels_per_image - 1) * p.panel_rows;
    if (last_rows != p.panel_rows) p.last_strips = panel_strips(&p, last_rows);
    choose_tile(weight, &p);
  }
  p.strips_per_chunk = strips_per_chunk(weight, p);
  p.ask_ahead = !stays_close(weight, p);
  p.blocks_per_call = blocks_per_call(weight, p);
  divide_work(weight, &p);
  return p;
}

}  // namespace crisp
