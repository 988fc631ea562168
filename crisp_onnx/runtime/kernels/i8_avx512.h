// The int8 microkernels' instruction set AVX-512 with VNNI: 16 positions a vector, 32 registers. `Shuffle` is how the four
// activations of a step are picked out of two units, and how channels are woven: with VBMI or without. Internal linkage,
// as in microkernel.h.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "i8_pack.h"
#include "i8_plain.h"
#include "i8_turn.h"
#include "i8_window.h"

namespace crisp {
namespace {

constexpr int64_t kVectorBytes = 64;

CRISP_INLINE int32_t four_bytes(const void* p) {
  int32_t four;
  std::memcpy(&four, p, sizeof four);
  return four;
}

// Bits for the first `count` of 64 bytes.
CRISP_INLINE __mmask64 first_bytes(int64_t count) {
  return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

template <class Shuffle>
struct Avx512Int8 {
  static constexpr int kLanes = 16;
  static constexpr bool kRoomBesideLoads = true;
  static constexpr bool kStoresFourRows = true;

  using Sums = __m512i;
  using Floats = __m512;
  using Quads = __m512i;
  using Picked = __m512i;
  using Mask = __mmask16;
  using Selector = typename Shuffle::Selector;

  static CRISP_INLINE Sums no_sums() { return _mm512_setzero_si512(); }
  static CRISP_INLINE Sums all(int32_t n) { return _mm512_set1_epi32(n); }
  static CRISP_INLINE Sums load_sums(const int32_t* p) { return _mm512_loadu_si512(p); }
  static CRISP_INLINE void store_sums(int32_t* p, Sums s) { _mm512_storeu_si512(p, s); }
  static CRISP_INLINE Sums load_bytes(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static CRISP_INLINE void store_bytes(uint8_t* p, Sums s) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(s));
  }
  static CRISP_INLINE Sums add(Sums a, Sums b) { return _mm512_add_epi32(a, b); }
  static CRISP_INLINE Sums subtract(Sums a, Sums b) { return _mm512_sub_epi32(a, b); }
  static CRISP_INLINE Sums least(Sums a, Sums b) { return _mm512_min_epi32(a, b); }
  static CRISP_INLINE Sums greatest(Sums a, Sums b) { return _mm512_max_epi32(a, b); }

  static CRISP_INLINE Floats all_floats(float f) { return _mm512_set1_ps(f); }
  static CRISP_INLINE Floats load_floats(const float* p) { return _mm512_loadu_ps(p); }
  static CRISP_INLINE Floats floats_of(Sums s) { return _mm512_cvtepi32_ps(s); }
  static CRISP_INLINE Floats times(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static CRISP_INLINE Floats times_plus(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  // What is too small for 32 bits becomes the least of them.
  static CRISP_INLINE Sums rounded(Floats f) { return _mm512_cvtps_epi32(f); }
  static CRISP_INLINE Floats least_floats(Floats a, Floats b) { return _mm512_min_ps(a, b); }

  static CRISP_INLINE Mask mask_of(uint32_t bits) { return static_cast<Mask>(bits); }
  static CRISP_INLINE Quads all_bytes(uint8_t byte) { return _mm512_set1_epi8(static_cast<char>(byte)); }
  static CRISP_INLINE Quads load(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static CRISP_INLINE Quads load_masked(const uint8_t* p, Mask m, Quads otherwise) {
    return _mm512_mask_loadu_epi32(otherwise, m, p);
  }
  static CRISP_INLINE Picked pick(Quads a, Quads b, const Selector& s) { return s.pick(a, b); }
  // From the address of a byte less its place in the lane, a lane's load brings the byte to its place.
  static CRISP_INLINE Picked pick_places(const uint8_t* const (&at)[kStepColumns], int from, __mmask64 lanes = ~0ull) {
    __m512i four = _mm512_maskz_loadu_epi8(lanes & 0x1111111111111111, at[0] + from);
    four = _mm512_mask_loadu_epi8(four, lanes & 0x2222222222222222, at[1] + from - 1);
    four = _mm512_mask_loadu_epi8(four, lanes & 0x4444444444444444, at[2] + from - 2);
    return _mm512_mask_loadu_epi8(four, lanes & 0x8888888888888888, at[3] + from - 3);
  }

  template <int V>
  struct StepWeights {
    const int8_t* four;
    CRISP_INLINE explicit StepWeights(const int8_t* w) : four(w) {}
    CRISP_INLINE __m512i row(int v) const { return _mm512_set1_epi32(four_bytes(four + v * kStepColumns)); }
  };
  static CRISP_INLINE Sums dot(Sums sums, Picked x, __m512i w) { return _mm512_dpbusd_epi32(sums, x, w); }
  // Without this the compiler turns every multiply-add's weight into a memory operand: J loads where one does.
  static CRISP_INLINE void keep_in_register(__m512i& v) {
#if defined(__GNUC__)
    asm("" : "+v"(v));
#else
    (void)v;
#endif
  }

  // V rows at a single position: lanes are rows.
  template <int V>
  struct Rows;
  template <int V>
  struct RowWeights;
  template <int V>
  using Correction = NoCorrection;

  template <int T, bool Masked>
  static CRISP_INLINE __m512i pick_tail(const uint8_t* a, const uint8_t* b, const Selector& s, uint32_t inside,
                                        Quads padding) {
    const Mask readable = static_cast<Mask>(Masked ? inside : (1u << T) - 1);
    return s.pick(_mm512_mask_loadu_epi32(padding, readable, a), _mm512_mask_loadu_epi32(padding, readable, b));
  }
  template <int T>
  static CRISP_INLINE __m512i pick_tail_places(const uint8_t* const (&at)[kStepColumns], int from) {
    return pick_places(at, from, first_bytes(T * kStepColumns));
  }

  // Four rows of answers at a vector of positions: 64 bytes at once until the last moment.
  static CRISP_INLINE void store_four_rows(uint8_t* y, int64_t stride, const __m512i (&rounded)[4], __m512i y_zero16,
                                           __m512i low, __m512i high) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i first = _mm512_adds_epi16(_mm512_packs_epi32(rounded[0], rounded[1]), y_zero16);
    const __m512i second = _mm512_adds_epi16(_mm512_packs_epi32(rounded[2], rounded[3]), y_zero16);
    const __m512i bounded = _mm512_min_epu8(high, _mm512_max_epu8(low, _mm512_packus_epi16(first, second)));
    const __m512i rows = _mm512_permutexvar_epi32(order, bounded);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm512_castsi512_si128(rows));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + stride), _mm512_extracti32x4_epi32(rows, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 2 * stride), _mm512_extracti32x4_epi32(rows, 2));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 3 * stride), _mm512_extracti32x4_epi32(rows, 3));
  }
  static CRISP_INLINE __m512i all_words(int32_t n) { return _mm512_set1_epi16(static_cast<int16_t>(n)); }

  static CRISP_INLINE void weave(uint8_t* to, const FourRows& from, int64_t count, int64_t stride) {
    if (stride == 1) {
      Shuffle::weave(to, from, count);
    } else if (stride == 2) {
      Shuffle::weave_even(to, from, count);
    } else {
      weave_plainly(to, from, count, stride);
    }
  }
  static CRISP_INLINE void prefetch(const int8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
};

template <class Shuffle>
template <int V>
struct Avx512Int8<Shuffle>::RowWeights {
  __m256i v;
  CRISP_INLINE explicit RowWeights(const int8_t* w) {
    v = V == 8 ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w))
               : _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
  }
};

template <class Shuffle>
template <int V>
struct Avx512Int8<Shuffle>::Rows {  // kernels of one or two rows have no tail
  static_assert(V <= 8, "rows of a vector of 256 bits");
  __m256i v;
  static CRISP_INLINE Rows none() { return {_mm256_setzero_si256()}; }
  static CRISP_INLINE Rows load(const int32_t* p) {
    if (V == 8) return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
    return {_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  CRISP_INLINE void store(int32_t* p) const {
    if (V == 8) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
    } else {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(v));
    }
  }
  CRISP_INLINE void add(const Rows& other) { v = _mm256_add_epi32(v, other.v); }
  CRISP_INLINE void dot(const RowWeights<V>& w, __m512i x, int t) {
    const __m256i position = _mm256_permutevar8x32_epi32(_mm512_castsi512_si256(x), _mm256_set1_epi32(t));
    v = _mm256_dpbusd_epi32(v, position, w.v);
  }
};

// Whole vectors, and the strips that the fp32 kernels have.
#define CRISP_INT8_AVX512_KERNELS(KERNEL)                                                                      \
  KERNEL(8, 3, 0, 48), KERNEL(8, 3, 1, 49), KERNEL(8, 3, 2, 50),                                               \
  KERNEL(8, 2, 0, 32), KERNEL(8, 2, 1, 33), KERNEL(8, 2, 2, 34), KERNEL(8, 2, 3, 35), KERNEL(8, 2, 4, 36),     \
  KERNEL(8, 1, 0, 16), KERNEL(8, 1, 1, 17), KERNEL(8, 1, 2, 18), KERNEL(8, 1, 3, 19), KERNEL(8, 1, 4, 20),     \
  KERNEL(8, 0, 1, 1),  KERNEL(8, 0, 2, 2),  KERNEL(8, 0, 4, 4),                                                \
  KERNEL(4, 6, 0, 96), KERNEL(4, 5, 0, 80), KERNEL(4, 4, 0, 64), KERNEL(4, 4, 1, 65), KERNEL(4, 4, 2, 66),     \
  KERNEL(4, 3, 0, 48), KERNEL(4, 3, 1, 49), KERNEL(4, 2, 0, 32), KERNEL(4, 2, 1, 33),                          \
  KERNEL(4, 1, 0, 16), KERNEL(4, 1, 1, 17), KERNEL(4, 0, 1, 1),                                                \
  KERNEL(2, 8, 0, 128), KERNEL(2, 6, 0, 96), KERNEL(2, 4, 0, 64), KERNEL(2, 3, 0, 48), KERNEL(2, 2, 0, 32),    \
  KERNEL(2, 1, 0, 16),                                                                                         \
  KERNEL(1, 12, 0, 192), KERNEL(1, 8, 0, 128), KERNEL(1, 4, 0, 64), KERNEL(1, 2, 0, 32), KERNEL(1, 1, 0, 16)

CRISP_INLINE void store_first_bytes(uint8_t* y, __m512i sums, int64_t count) {
  _mm512_mask_cvtepi32_storeu_epi8(y, static_cast<__mmask16>(first_bytes(count)), sums);
}

// Turning units of four bytes is turning floats.
void turn_units_of_16(const TurnCall& call) {
  if (call.columns % kStepColumns || call.from_stride % kStepColumns) return turn_units(call);
  TurnCall floats = call;
  floats.columns /= kStepColumns;
  floats.from_stride /= kStepColumns;
  kAvx512Kernels.turn(floats);
}

}  // namespace
}  // namespace crisp
