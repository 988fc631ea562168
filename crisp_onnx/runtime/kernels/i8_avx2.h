// The int8 microkernels' instruction set AVX2: 8 positions a vector, 16 registers. `Product` is how four activations meet
// four weights: with VNNI or without. Internal linkage, as in microkernel.h.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "i8_pack.h"
#include "i8_plain.h"
#include "i8_turn.h"
#include "i8_window.h"

namespace crisp {
namespace {

CRISP_INLINE __m256i all_fours(const void* p) {
  int32_t four;
  std::memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}

CRISP_INLINE __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

// Of a `Product`: activations and weights stay the bytes that they are.
struct WholeBytes {
  using Picked = __m256i;
  using Weights = __m256i;

  static CRISP_INLINE Picked picked(__m256i four) { return four; }
  static CRISP_INLINE Weights weights(__m256i four) { return four; }
  static CRISP_INLINE void keep_in_register(Weights& w) {
#if defined(__GNUC__)
    asm("" : "+x"(w));
#else
    (void)w;
#endif
  }
};

template <class Product>
struct Avx2Int8 {
  static constexpr int kLanes = 8;
  static constexpr bool kRoomBesideLoads = false;
  static constexpr bool kStoresFourRows = true;

  using Sums = __m256i;
  using Floats = __m256;
  using Quads = __m256i;
  using Picked = typename Product::Picked;
  using Mask = int;

  static CRISP_INLINE Sums no_sums() { return _mm256_setzero_si256(); }
  static CRISP_INLINE Sums all(int32_t n) { return _mm256_set1_epi32(n); }
  static CRISP_INLINE Sums load_sums(const int32_t* p) { return load_256(p); }
  static CRISP_INLINE void store_sums(int32_t* p, Sums s) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), s); }
  static CRISP_INLINE Sums load_bytes(const uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static CRISP_INLINE void store_bytes(uint8_t* p, Sums s) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
  static CRISP_INLINE Sums add(Sums a, Sums b) { return _mm256_add_epi32(a, b); }
  static CRISP_INLINE Sums subtract(Sums a, Sums b) { return _mm256_sub_epi32(a, b); }
  static CRISP_INLINE Sums least(Sums a, Sums b) { return _mm256_min_epi32(a, b); }
  static CRISP_INLINE Sums greatest(Sums a, Sums b) { return _mm256_max_epi32(a, b); }

  static CRISP_INLINE Floats all_floats(float f) { return _mm256_set1_ps(f); }
  static CRISP_INLINE Floats load_floats(const float* p) { return _mm256_loadu_ps(p); }
  static CRISP_INLINE Floats floats_of(Sums s) { return _mm256_cvtepi32_ps(s); }
  static CRISP_INLINE Floats times(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static CRISP_INLINE Floats times_plus(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static CRISP_INLINE Sums rounded(Floats f) { return _mm256_cvtps_epi32(f); }
  static CRISP_INLINE Floats least_floats(Floats a, Floats b) { return _mm256_min_ps(a, b); }

  // A byte whose highest bit is set shuffles to zero.
  struct Selector {
    __m256i first, second;
    const uint8_t* column;
    CRISP_INLINE explicit Selector(const uint8_t* columns) : column(columns) {
      const __m256i four = all_fours(columns), bit = _mm256_set1_epi8(kSecondUnitBit);
      const __m256i lanes = _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0C0C0C0C, 0, 0x04040404, 0x08080808, 0x0C0C0C0C);
      first = _mm256_add_epi8(_mm256_add_epi8(four, _mm256_and_si256(four, bit)), lanes);
      second = _mm256_xor_si256(first, _mm256_set1_epi8(static_cast<char>(0x80)));
    }
  };

  static CRISP_INLINE Mask mask_of(uint32_t) { return 0; }
  static CRISP_INLINE Quads all_bytes(uint8_t byte) { return _mm256_set1_epi8(static_cast<char>(byte)); }
  static CRISP_INLINE Quads load(const uint8_t* p) { return load_256(p); }
  static CRISP_INLINE Quads load_masked(const uint8_t* p, Mask, Quads) { return load(p); }  // has no masks
  static CRISP_INLINE Picked pick(Quads a, Quads b, const Selector& s) {
    return Product::picked(_mm256_or_si256(_mm256_shuffle_epi8(a, s.first), _mm256_shuffle_epi8(b, s.second)));
  }
  // From the address of a byte less its place in the lane, a lane's load brings the byte to its place.
  static CRISP_INLINE Picked pick_places(const uint8_t* const (&at)[kStepColumns], int from) {
    __m256i four = _mm256_and_si256(load_256(at[0] + from), _mm256_set1_epi32(0xFF));
    CRISP_UNROLL for (int i = 1; i < kStepColumns; ++i) {
      const __m256i byte = _mm256_set1_epi32(static_cast<int32_t>(0xFFu << (8 * i)));
      four = _mm256_or_si256(four, _mm256_and_si256(load_256(at[i] + from - i), byte));
    }
    return Product::picked(four);
  }

  template <int V>
  struct StepWeights {
    const int8_t* four;
    CRISP_INLINE explicit StepWeights(const int8_t* w) : four(w) {}
    CRISP_INLINE typename Product::Weights row(int v) const {
      return Product::weights(all_fours(four + v * kStepColumns));
    }
  };
  static CRISP_INLINE Sums dot(Sums sums, const Picked& x, const typename Product::Weights& w) {
    return Product::dot(sums, x, w);
  }
  static CRISP_INLINE void keep_in_register(typename Product::Weights& w) { Product::keep_in_register(w); }

  template <int V>
  using Rows = PlainRows<V>;
  template <int V>
  using RowWeights = PlainRowWeights<V>;
  template <int V>
  using Correction = NoCorrection;

  // Four rows of answers at a vector of positions: 32 bytes at once until the last moment.
  static CRISP_INLINE void store_four_rows(uint8_t* y, int64_t stride, const __m256i (&rounded)[4], __m256i y_zero16,
                                           __m256i low, __m256i high) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i first = _mm256_adds_epi16(_mm256_packs_epi32(rounded[0], rounded[1]), y_zero16);
    const __m256i second = _mm256_adds_epi16(_mm256_packs_epi32(rounded[2], rounded[3]), y_zero16);
    const __m256i bounded = _mm256_min_epu8(high, _mm256_max_epu8(low, _mm256_packus_epi16(first, second)));
    const __m256i rows = _mm256_permutevar8x32_epi32(bounded, order);
    const __m128i halves[] = {_mm256_castsi256_si128(rows), _mm256_extracti128_si256(rows, 1)};
    CRISP_UNROLL for (int i = 0; i < 2; ++i, y += 2 * stride) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(y), halves[i]);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(y + stride), _mm_unpackhi_epi64(halves[i], halves[i]));
    }
  }
  static CRISP_INLINE __m256i all_words(int32_t n) { return _mm256_set1_epi16(static_cast<int16_t>(n)); }

  static CRISP_INLINE void weave(uint8_t* to, const FourRows& from, int64_t count, int64_t stride) {
    int64_t j = 0;
    const __m128i even = _mm_set1_epi16(0xFF);
    const auto load = [](const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
    // A load of every second byte ends one byte early, not to read behind the last.
    for (; stride <= 2 && j + 16 <= count; j += 16, to += 16 * kStepColumns) {
      __m128i row[kStepColumns];
      CRISP_UNROLL for (int i = 0; i < kStepColumns; ++i) {
        const uint8_t* p = from.at[i] + j * stride;
        row[i] = stride == 1 ? load(p)
                             : _mm_packus_epi16(_mm_and_si128(load(p), even), _mm_srli_epi16(load(p + 15), 8));
      }
      const __m128i ab_low = _mm_unpacklo_epi8(row[0], row[1]), ab_high = _mm_unpackhi_epi8(row[0], row[1]);
      const __m128i cd_low = _mm_unpacklo_epi8(row[2], row[3]), cd_high = _mm_unpackhi_epi8(row[2], row[3]);
      __m128i* out = reinterpret_cast<__m128i*>(to);
      _mm_storeu_si128(out, _mm_unpacklo_epi16(ab_low, cd_low));
      _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(ab_low, cd_low));
      _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(ab_high, cd_high));
      _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(ab_high, cd_high));
    }
    weave_plainly(to, from.plus(j * stride), count - j, stride);
  }
  static CRISP_INLINE void prefetch(const int8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
};

// The taps of eight neighbouring outputs, four in each half.
template <class Product>
struct WindowsOf8 {
  __m256i order;
  int64_t half;

  static bool can(const WindowCall& call) { return four_outputs_fit(call); }
  explicit WindowsOf8(const WindowCall& call) : half(4 * call.stride_w) {
    uint8_t places[32];
    for (int64_t i = 0; i < 32; ++i) {
      places[i] = static_cast<uint8_t>(i / 4 % 4 * call.stride_w + i % 4 * call.dilation_w);
    }
    order = load_256(places);
  }
  CRISP_INLINE typename Product::Picked at(const uint8_t* p) const {
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + half));
    return Product::picked(_mm256_shuffle_epi8(_mm256_set_m128i(high, low), order));
  }
  static CRISP_INLINE void store(uint8_t* y, __m256i sums, int64_t count) {
    if (count == 8) return Avx2Int8<Product>::store_bytes(y, sums);
    uint8_t all[8];
    Avx2Int8<Product>::store_bytes(all, sums);
    std::memcpy(y, all, static_cast<size_t>(count));
  }
};

// Turning units of four bytes is turning floats.
void turn_units_of_8(const TurnCall& call) {
  if (call.columns % kStepColumns || call.from_stride % kStepColumns) return turn_units(call);
  TurnCall floats = call;
  floats.columns /= kStepColumns;
  floats.from_stride /= kStepColumns;
  kAvx2Kernels.turn(floats);
}

}  // namespace
}  // namespace crisp
