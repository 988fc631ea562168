// The microkernels for AVX-512 (F, DQ, BW, VL): 16 positions a vector, 32 registers.
#include <immintrin.h>

#include "microkernel.h"
#include "pack_planes.h"
#include "row_kernel.h"
#include "turn.h"

namespace crisp {
namespace {

struct Avx512 {
  using Vec = __m512;
  using Mask = __mmask16;
  static constexpr int kLanes = 16;
  static constexpr uint32_t kFull = 0xFFFF;
  static constexpr bool kRoomBesideLoads = true;

  static CRISP_INLINE Vec zero() { return _mm512_setzero_ps(); }
  static CRISP_INLINE Vec set1(const float* p) { return _mm512_set1_ps(*p); }
  static CRISP_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static CRISP_INLINE Mask mask(int count) { return static_cast<Mask>((1u << count) - 1); }
  static CRISP_INLINE Mask mask_of(uint32_t bits) { return static_cast<Mask>(bits); }
  static CRISP_INLINE Vec load_masked(const float* p, Mask m) { return _mm512_maskz_loadu_ps(m, p); }
  static CRISP_INLINE Vec load_first(const float* p, int count) { return _mm512_maskz_loadu_ps(mask(count), p); }
  static CRISP_INLINE void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
  static CRISP_INLINE void store_first(float* p, Vec v, int count) { _mm512_mask_storeu_ps(p, mask(count), v); }
  static CRISP_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static CRISP_INLINE Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  // Both return the second operand when one is NaN, so NaN reaches the output.
  static CRISP_INLINE Vec max(Vec bound, Vec v) { return _mm512_max_ps(bound, v); }
  static CRISP_INLINE Vec min(Vec bound, Vec v) { return _mm512_min_ps(bound, v); }
  static CRISP_INLINE void prefetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

  // Without this the compiler turns every multiply-add's weight into a memory operand: J loads where one does.
  static CRISP_INLINE void keep_in_register(Vec& v) {
#if defined(__GNUC__)
    asm("" : "+v"(v));
#else
    (void)v;
#endif
  }

  static CRISP_INLINE Vec compress(Vec v, uint32_t keep, int* count) {
    *count = static_cast<int>(_mm_popcnt_u32(keep));
    return _mm512_maskz_compress_ps(static_cast<Mask>(keep), v);
  }

  static CRISP_INLINE void turn(Vec (&rows)[kLanes]) {
    Vec pairs[kLanes], fours[kLanes], eights[kLanes];
    CRISP_UNROLL for (int r = 0; r < kLanes; r += 2) {
      pairs[r] = _mm512_unpacklo_ps(rows[r], rows[r + 1]);
      pairs[r + 1] = _mm512_unpackhi_ps(rows[r], rows[r + 1]);
    }
    CRISP_UNROLL for (int r = 0; r < kLanes; r += 4) {
      fours[r] = _mm512_shuffle_ps(pairs[r], pairs[r + 2], _MM_SHUFFLE(1, 0, 1, 0));
      fours[r + 1] = _mm512_shuffle_ps(pairs[r], pairs[r + 2], _MM_SHUFFLE(3, 2, 3, 2));
      fours[r + 2] = _mm512_shuffle_ps(pairs[r + 1], pairs[r + 3], _MM_SHUFFLE(1, 0, 1, 0));
      fours[r + 3] = _mm512_shuffle_ps(pairs[r + 1], pairs[r + 3], _MM_SHUFFLE(3, 2, 3, 2));
    }
    CRISP_UNROLL for (int c = 0; c < 4; ++c) {  // a quarter of four columns from every fours[c + 4 * i]
      eights[c] = _mm512_shuffle_f32x4(fours[c], fours[c + 4], _MM_SHUFFLE(2, 0, 2, 0));
      eights[c + 4] = _mm512_shuffle_f32x4(fours[c], fours[c + 4], _MM_SHUFFLE(3, 1, 3, 1));
      eights[c + 8] = _mm512_shuffle_f32x4(fours[c + 8], fours[c + 12], _MM_SHUFFLE(2, 0, 2, 0));
      eights[c + 12] = _mm512_shuffle_f32x4(fours[c + 8], fours[c + 12], _MM_SHUFFLE(3, 1, 3, 1));
    }
    CRISP_UNROLL for (int c = 0; c < 4; ++c) {
      rows[c] = _mm512_shuffle_f32x4(eights[c], eights[c + 8], _MM_SHUFFLE(2, 0, 2, 0));
      rows[c + 4] = _mm512_shuffle_f32x4(eights[c + 4], eights[c + 12], _MM_SHUFFLE(2, 0, 2, 0));
      rows[c + 8] = _mm512_shuffle_f32x4(eights[c], eights[c + 8], _MM_SHUFFLE(3, 1, 3, 1));
      rows[c + 12] = _mm512_shuffle_f32x4(eights[c + 4], eights[c + 12], _MM_SHUFFLE(3, 1, 3, 1));
    }
  }

  // Lanes from..to of a vector, and the elements that every second of 32 neighbours takes for them.
  struct Span {
    int from, to;
    Mask lanes, even_low, even_high;
  };

  static CRISP_INLINE Span span(int from, int to) {
    const uint32_t even = to == 0 ? 0 : (0xFFFFFFFFu >> (33 - 2 * to)) & (0xFFFFFFFFu << (2 * from)) & 0x55555555u;
    const Mask lanes = static_cast<Mask>(mask(to) & ~mask(from));
    return {from, to, lanes, static_cast<Mask>(even), static_cast<Mask>(even >> 16)};
  }

  static CRISP_INLINE Vec load_span(const float* p, const Span& s) { return _mm512_maskz_loadu_ps(s.lanes, p); }

  // p[2 * lane]; reads nothing before the first or after the last lane of the span.
  static CRISP_INLINE Vec load_even(const float* p, const Span& s) {
    const Vec a = _mm512_maskz_loadu_ps(s.even_low, p), b = _mm512_maskz_loadu_ps(s.even_high, p + 16);
    const __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(a, order, b);
  }

  // Neighbouring activations, of which kept ones are picked; those that must not be read count as zero.
  static constexpr int kWindow = 32;
  template <bool Wide>
  struct Window;

  // Row groups done at once: what the registers hold.
  static constexpr int row_groups(int rows, int positions) {
    if (rows == 1 && positions == 1) return 16;
    return rows == 8 ? 2 : rows == 4 || positions == 4 ? 4 : 8;
  }
  static constexpr int most_positions(int rows) { return rows == 8 ? 2 : rows == 1 ? 20 : 10; }

  template <int V>
  struct Rows;
};

template <>
struct Avx512::Window<false> {
  __m256 low, high;

  CRISP_INLINE void load(const float* p, int64_t readable) {
    if (readable >= 16) {
      low = _mm256_loadu_ps(p);
      high = _mm256_loadu_ps(p + 8);
    } else {
      const __m512 both = load_first(p, static_cast<int>(readable > 0 ? readable : 0));
      low = _mm512_castps512_ps256(both);
      high = _mm512_extractf32x8_ps(both, 1);
    }
  }
  CRISP_INLINE __m256 look_up(__m256i places) const { return _mm256_permutex2var_ps(low, places, high); }
};

template <>
struct Avx512::Window<true> {
  __m512 low, high;

  CRISP_INLINE void load(const float* p, int64_t readable) {
    if (readable >= 32) {
      low = _mm512_loadu_ps(p);
      high = _mm512_loadu_ps(p + 16);
    } else {
      low = load_first(p, static_cast<int>(readable < 0 ? 0 : readable < 16 ? readable : 16));
      high = load_first(p + 16, static_cast<int>(readable < 16 ? 0 : readable - 16));
    }
  }
  CRISP_INLINE __m256 look_up(__m256i places) const {
    return _mm512_castps512_ps256(_mm512_permutex2var_ps(low, _mm512_castsi256_si512(places), high));
  }
};

template <>
struct Avx512::Rows<8> {
  __m256 v;
  static CRISP_INLINE Rows zero() { return {_mm256_setzero_ps()}; }
  static CRISP_INLINE Rows load(const float* p) { return {_mm256_loadu_ps(p)}; }
  CRISP_INLINE void store(float* p) const { _mm256_storeu_ps(p, v); }
  CRISP_INLINE void add(Rows other) { v = _mm256_add_ps(v, other.v); }
  CRISP_INLINE void fma(Rows w, const float* x) { v = _mm256_fmadd_ps(w.v, _mm256_set1_ps(*x), v); }
  CRISP_INLINE void fma_masked(Rows w, const float* x, Mask m) {
    v = _mm256_fmadd_ps(w.v, _mm256_broadcastss_ps(_mm_maskz_loadu_ps(static_cast<__mmask8>(m), x)), v);
  }
};

template <>
struct Avx512::Rows<4> {
  __m128 v;
  static CRISP_INLINE Rows zero() { return {_mm_setzero_ps()}; }
  static CRISP_INLINE Rows load(const float* p) { return {_mm_loadu_ps(p)}; }
  CRISP_INLINE void store(float* p) const { _mm_storeu_ps(p, v); }
  CRISP_INLINE void add(Rows other) { v = _mm_add_ps(v, other.v); }
  CRISP_INLINE void fma(Rows w, const float* x) { v = _mm_fmadd_ps(w.v, _mm_set1_ps(*x), v); }
  CRISP_INLINE void fma_masked(Rows w, const float* x, Mask m) {
    v = _mm_fmadd_ps(w.v, _mm_broadcastss_ps(_mm_maskz_loadu_ps(static_cast<__mmask8>(m), x)), v);
  }
};

template <int V>
struct Avx512::Rows {  // kernels of one or two rows have no tail
  static CRISP_INLINE Rows zero() { return {}; }
  static CRISP_INLINE Rows load(const float*) { return {}; }
  CRISP_INLINE void store(float*) const {}
  CRISP_INLINE void add(Rows) {}
  CRISP_INLINE void fma(Rows, const float*) {}
};

#define KERNEL(rows, vectors, tail, strip) \
  kernel_row<Avx512, rows, vectors, tail, strip>("f32_hybrid_" #rows "x" #strip "__avx512")

#define ROW_KERNEL(rows, positions) \
  row_kernel_row<Avx512, rows, positions>("f32_hybridrow_" #rows "x" #positions "__avx512")

constexpr Kernel kKernels[] = {
    KERNEL(8, 3, 0, 48), KERNEL(8, 3, 1, 49), KERNEL(8, 3, 2, 50), KERNEL(8, 3, 3, 51),
    KERNEL(8, 2, 0, 32), KERNEL(8, 2, 1, 33), KERNEL(8, 2, 2, 34), KERNEL(8, 2, 3, 35),
    KERNEL(8, 2, 4, 36), KERNEL(8, 2, 5, 37), KERNEL(8, 2, 6, 38), KERNEL(8, 2, 7, 39),
    KERNEL(8, 1, 0, 16), KERNEL(8, 1, 1, 17), KERNEL(8, 1, 2, 18), KERNEL(8, 1, 3, 19),
    KERNEL(8, 1, 4, 20), KERNEL(8, 1, 5, 21), KERNEL(8, 1, 6, 22), KERNEL(8, 1, 7, 23),
    KERNEL(8, 0, 1, 1),  KERNEL(8, 0, 2, 2),  KERNEL(8, 0, 3, 3),  KERNEL(8, 0, 4, 4),
    KERNEL(8, 0, 5, 5),
    KERNEL(4, 6, 0, 96), KERNEL(4, 5, 0, 80), KERNEL(4, 5, 1, 81), KERNEL(4, 5, 2, 82), KERNEL(4, 5, 3, 83),
    KERNEL(4, 4, 0, 64), KERNEL(4, 4, 1, 65), KERNEL(4, 4, 2, 66), KERNEL(4, 4, 3, 67),
    KERNEL(4, 3, 0, 48), KERNEL(4, 3, 1, 49), KERNEL(4, 3, 2, 50), KERNEL(4, 3, 3, 51),
    KERNEL(4, 2, 0, 32), KERNEL(4, 2, 1, 33), KERNEL(4, 2, 2, 34), KERNEL(4, 2, 3, 35),
    KERNEL(4, 1, 0, 16), KERNEL(4, 1, 1, 17), KERNEL(4, 1, 2, 18), KERNEL(4, 1, 3, 19),
    KERNEL(4, 0, 1, 1),
    KERNEL(2, 10, 0, 160), KERNEL(2, 8, 0, 128), KERNEL(2, 6, 0, 96), KERNEL(2, 5, 0, 80),
    KERNEL(2, 4, 0, 64), KERNEL(2, 3, 0, 48), KERNEL(2, 2, 0, 32), KERNEL(2, 1, 0, 16),
    KERNEL(1, 16, 0, 256), KERNEL(1, 12, 0, 192), KERNEL(1, 8, 0, 128), KERNEL(1, 6, 0, 96),
    KERNEL(1, 4, 0, 64), KERNEL(1, 3, 0, 48), KERNEL(1, 2, 0, 32), KERNEL(1, 1, 0, 16),
    ROW_KERNEL(8, 1), ROW_KERNEL(4, 4), ROW_KERNEL(4, 2), ROW_KERNEL(4, 1), ROW_KERNEL(2, 4), ROW_KERNEL(2, 2),
    ROW_KERNEL(2, 1), ROW_KERNEL(1, 4), ROW_KERNEL(1, 2), ROW_KERNEL(1, 1),
};

constexpr KernelSet kSet = {Element::kFloat32, Isa::kAvx512, Avx512::kLanes, kKernels, sizeof(kKernels) / sizeof(kKernels[0]),
                            true, pack_channels<Avx512>, turn_matrix<Avx512>, turn_matrix<Avx512>};

}  // namespace

const KernelSet kAvx512Kernels = kSet;

}  // namespace crisp
