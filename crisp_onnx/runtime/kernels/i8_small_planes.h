// Depthwise convolutions of bytes over small planes, for AVX-512 with VBMI: a plane of outputs at once, without a padded
// copy. Lanes are outputs wherever they lie, one permutation brings any four taps of each into its lane, and which bytes
// those are is found once for all planes. Internal linkage, as in microkernel.h.
#pragma once

#include <immintrin.h>

#include "i8_avx512.h"

namespace crisp {
namespace {

constexpr int64_t kGroupLanes = 16;
constexpr int kMostGroups = 4;             // of outputs: their bytes are a vector
constexpr int64_t kMostFlatSteps = 64;     // beyond them the plan would not stay in the first cache

// Where the lanes of every step and group find their taps, (steps, groups), and where the outputs lie in the end.
struct LanePlan {
  alignas(64) uint8_t taps[kMostFlatSteps * kMostGroups][kVectorBytes];  // as the source of bytes wants them
  uint64_t inside[kMostFlatSteps * kMostGroups];                         // a bit for every tap that is no padding
  int32_t first[kMostFlatSteps * kMostGroups];                           // byte of the plane that is loaded,
  int32_t second[kMostFlatSteps * kMostGroups];                          // and that of the second vector
  alignas(64) uint8_t order[kVectorBytes];                               // of the outputs among the packed lanes
};

// Sources of bytes: what a group's taps of a step are picked out of. Vectors lie within the plane.

// The whole plane, and behind it what padding counts as.
struct WholePlane {
  static constexpr int64_t kReach = kVectorBytes;
  static bool can(int64_t plane_bytes) { return plane_bytes < kVectorBytes; }
  static int32_t padding_place(const WindowCall& call) { return static_cast<int32_t>(call.height * call.width); }

  const LanePlan& plan;
  __m512i plane;
  CRISP_INLINE WholePlane(const LanePlan& p, const uint8_t* x, int64_t plane_bytes, __m512i x_zero)
      : plan(p), plane(_mm512_mask_loadu_epi8(x_zero, first_bytes(plane_bytes), x)) {}
  CRISP_INLINE __m512i at(int64_t i) const {
    return _mm512_permutexvar_epi8(_mm512_load_si512(plan.taps[i]), plane);
  }
};

struct OneVector {
  static constexpr int64_t kReach = kVectorBytes;
  static bool can(int64_t plane_bytes) { return plane_bytes >= kVectorBytes; }
  static int32_t padding_place(const WindowCall&) { return kVectorBytes; }  // the first byte of the other operand

  const LanePlan& plan;
  const uint8_t* x;
  __m512i x_zero;
  CRISP_INLINE OneVector(const LanePlan& p, const uint8_t* plane, int64_t, __m512i zero)
      : plan(p), x(plane), x_zero(zero) {}
  CRISP_INLINE __m512i at(int64_t i) const {
    return _mm512_permutex2var_epi8(_mm512_loadu_si512(x + plan.first[i]), _mm512_load_si512(plan.taps[i]), x_zero);
  }
};

// Where a tap is padding, its place stays in the result: it is the input's zero.
struct TwoVectors {
  static constexpr int64_t kReach = 2 * kVectorBytes;
  static bool can(int64_t plane_bytes) { return plane_bytes >= kVectorBytes; }
  static int32_t padding_place(const WindowCall& call) { return call.x_zero; }

  const LanePlan& plan;
  const uint8_t* x;
  CRISP_INLINE TwoVectors(const LanePlan& p, const uint8_t* plane, int64_t, __m512i) : plan(p), x(plane) {}
  CRISP_INLINE __m512i at(int64_t i) const {
    return _mm512_mask2_permutex2var_epi8(_mm512_loadu_si512(x + plan.first[i]), _mm512_load_si512(plan.taps[i]),
                                          plan.inside[i], _mm512_loadu_si512(x + plan.second[i]));
  }
};

// The outputs of 16 lanes: whole rows, which lie closer together in the plane, where that takes no more groups.
struct Groups {
  int64_t count, outputs;

  explicit Groups(const WindowCall& call) {
    const int64_t all = call.out_height * call.out_width, rows = kGroupLanes / call.out_width;
    count = (all + kGroupLanes - 1) / kGroupLanes;
    outputs = rows > 0 && rows * count >= call.out_height ? rows * call.out_width : kGroupLanes;
  }
};

// The lanes of a group: where each output's first tap lies, counted from the padding's corner.
struct Lanes {
  __m512i row, column;
  __mmask16 used;
};

inline Lanes lanes_of(const WindowCall& call, int64_t first, int64_t count) {
  alignas(64) int32_t row[kGroupLanes] = {}, column[kGroupLanes] = {};
  for (int64_t i = 0; i < count; ++i) {
    row[i] = static_cast<int32_t>((first + i) / call.out_width * call.stride_h);
    column[i] = static_cast<int32_t>((first + i) % call.out_width * call.stride_w);
  }
  return {_mm512_load_si512(row), _mm512_load_si512(column), static_cast<__mmask16>((1u << count) - 1)};
}

// A tap of every lane.
struct LaneTaps {
  __m512i place;      // in the plane
  __mmask16 inside;
};

inline LaneTaps taps_of(const WindowCall& call, const Lanes& lanes, int64_t tap) {
  if (tap >= call.kernel_h * call.kernel_w) return {_mm512_setzero_si512(), 0};  // fills up a step
  const int64_t i = tap / call.kernel_w * call.dilation_h - call.top, j = tap % call.kernel_w * call.dilation_w - call.left;
  const __m512i row = _mm512_add_epi32(lanes.row, _mm512_set1_epi32(static_cast<int32_t>(i)));
  const __m512i column = _mm512_add_epi32(lanes.column, _mm512_set1_epi32(static_cast<int32_t>(j)));
  const __m512i height = _mm512_set1_epi32(static_cast<int32_t>(call.height));
  const __m512i width = _mm512_set1_epi32(static_cast<int32_t>(call.width));
  const __mmask16 in_rows = _mm512_mask_cmplt_epu32_mask(lanes.used, row, height);  // as numbers without a sign
  return {_mm512_add_epi32(_mm512_mullo_epi32(row, width), column), _mm512_mask_cmplt_epu32_mask(in_rows, column, width)};
}

// Whether the lanes' taps of a step fit the source; if so, where they are.
template <class Source>
bool plan_step(const WindowCall& call, const Lanes& lanes, int64_t step, int64_t at, LanePlan& plan) {
  const int32_t plane_bytes = static_cast<int32_t>(call.height * call.width);
  LaneTaps taps[kStepTaps];
  __m512i least = _mm512_set1_epi32(plane_bytes - 1), greatest = _mm512_setzero_si512();
  CRISP_UNROLL for (int t = 0; t < kStepTaps; ++t) {
    taps[t] = taps_of(call, lanes, step * kStepTaps + t);
    least = _mm512_mask_min_epi32(least, taps[t].inside, least, taps[t].place);
    greatest = _mm512_mask_max_epi32(greatest, taps[t].inside, greatest, taps[t].place);
  }
  const int32_t last_vector = std::max<int32_t>(plane_bytes - kVectorBytes, 0);
  const int32_t first = std::min(_mm512_reduce_min_epi32(least), last_vector);
  if (_mm512_reduce_max_epi32(greatest) - first >= Source::kReach) return false;
  const int32_t second = std::min<int32_t>(first + kVectorBytes, last_vector);
  const __m512i vector = _mm512_set1_epi32(kVectorBytes);
  const __m512i moved = _mm512_set1_epi32(first + static_cast<int32_t>(kVectorBytes) - second);
  const __m512i padding = _mm512_set1_epi32(Source::padding_place(call));
  __m512i places = _mm512_setzero_si512(), inside = _mm512_setzero_si512();
  CRISP_UNROLL for (int t = 0; t < kStepTaps; ++t) {
    const __m512i from_first = _mm512_sub_epi32(taps[t].place, _mm512_set1_epi32(first));
    const __mmask16 in_second = _mm512_cmpge_epi32_mask(from_first, vector);
    const __m512i place = _mm512_mask_add_epi32(from_first, in_second, from_first, moved);
    places = _mm512_or_si512(places, _mm512_slli_epi32(_mm512_mask_mov_epi32(padding, taps[t].inside, place), 8 * t));
    const int32_t all_ones = static_cast<int32_t>(0xFFu << 8 * t);
    inside = _mm512_or_si512(inside, _mm512_maskz_set1_epi32(taps[t].inside, all_ones));
  }
  _mm512_store_si512(plan.taps[at], places);
  plan.inside[at] = _mm512_movepi8_mask(inside);
  plan.first[at] = first;
  plan.second[at] = second;
  return true;
}

template <class Source>
bool plan_lanes(const WindowCall& call, const Groups& groups, LanePlan& plan) {
  const int64_t all = call.out_height * call.out_width;
  for (int64_t g = 0; g < groups.count; ++g) {
    const int64_t first = g * groups.outputs, count = std::min(groups.outputs, all - first);
    const Lanes lanes = lanes_of(call, first, count);
    for (int64_t s = 0; s < call.flat_steps; ++s) {
      if (!plan_step<Source>(call, lanes, s, s * groups.count + g, plan)) return false;
    }
    // Packing leaves four bytes of each group side by side.
    for (int64_t i = 0; i < count; ++i) plan.order[first + i] = static_cast<uint8_t>(i / 4 * 16 + g * 4 + i % 4);
  }
  for (int64_t i = all; i < kVectorBytes; ++i) plan.order[i] = 0;
  return true;
}

template <class Source, int kGroups>
void walk_small_planes(const WindowCall& call, const LanePlan& plan) {
  const int64_t plane_bytes = call.height * call.width, outputs = call.out_height * call.out_width;
  const __m512i x_zero = _mm512_set1_epi8(static_cast<char>(call.x_zero));
  const __m512i y_zero = _mm512_set1_epi16(static_cast<int16_t>(call.y_zero));
  const __m512 far = _mm512_set1_ps(kFarSteps);
  const __m512i order = _mm512_load_si512(plan.order);
  const uint8_t* const end_of_y = call.y + call.end * outputs;
  for (int64_t plane = call.first; plane < call.end; ++plane) {
    const int64_t channel = plane % call.channels;
    const int8_t* weights = call.flat_weights + channel * call.flat_steps * kStepTaps;
    const Source source(plan, call.x + plane * plane_bytes, plane_bytes, x_zero);
    __m512i sums[kGroups];
    CRISP_UNROLL for (int g = 0; g < kGroups; ++g) sums[g] = _mm512_set1_epi32(call.starts[channel]);
    for (int64_t s = 0; s < call.flat_steps; ++s) {
      const __m512i four = _mm512_set1_epi32(four_bytes(weights + s * kStepTaps));
      CRISP_UNROLL for (int g = 0; g < kGroups; ++g) {
        sums[g] = _mm512_dpbusd_epi32(sums[g], source.at(s * kGroups + g), four);
      }
    }
    const __m512 scale = _mm512_set1_ps(call.scales[channel]);
    __m512i rounded[kMostGroups];
    CRISP_UNROLL for (int g = 0; g < kGroups; ++g) {
      rounded[g] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sums[g]), scale), far));
    }
    CRISP_UNROLL for (int g = kGroups; g < kMostGroups; ++g) rounded[g] = rounded[kGroups - 1];
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(rounded[0], rounded[1]), y_zero);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(rounded[2], rounded[3]), y_zero);
    const __m512i bytes = _mm512_permutexvar_epi8(order, _mm512_packus_epi16(low, high));
    uint8_t* y = call.y + plane * outputs;
    if (end_of_y - y >= kVectorBytes) {
      _mm512_storeu_si512(y, bytes);  // the next planes' outputs come over what is too much
    } else {
      _mm512_mask_storeu_epi8(y, first_bytes(outputs), bytes);
    }
  }
}

template <class Source>
bool run_small_planes_from(const WindowCall& call) {
  LanePlan plan;
  const Groups groups(call);
  if (!Source::can(call.height * call.width) || !plan_lanes<Source>(call, groups, plan)) return false;
  switch (groups.count) {
    case 1: walk_small_planes<Source, 1>(call, plan); break;
    case 2: walk_small_planes<Source, 2>(call, plan); break;
    case 3: walk_small_planes<Source, 3>(call, plan); break;
    default: walk_small_planes<Source, 4>(call, plan); break;
  }
  return true;
}

// Whether the planes are small enough; if so, all are done.
inline bool run_small_planes(const WindowCall& call) {
  const int64_t outputs = call.out_height * call.out_width;
  if (outputs < 1 || outputs > kVectorBytes || call.flat_steps > kMostFlatSteps || call.pitch > kMostExtent ||
      call.padded_bytes > kMostExtent * call.pitch) {
    return false;
  }
  return run_small_planes_from<WholePlane>(call) || run_small_planes_from<OneVector>(call) ||
         run_small_planes_from<TwoVectors>(call);
}

}  // namespace
}  // namespace crisp
