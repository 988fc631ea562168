// The microkernels for AVX-512 (F, DQ, BW, VL): 16 positions a vector, 32 registers.
#include <immintrin.h>

#include "microkernel.h"
#include "pack_planes.h"

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

  template <int V>
  struct Rows;
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
};

constexpr KernelSet kSet = {Element::kFloat32, Isa::kAvx512, Avx512::kLanes, kKernels, sizeof(kKernels) / sizeof(kKernels[0]),
                            true, pack_channels<Avx512>};

}  // namespace

const KernelSet* avx512_kernels() { return &kSet; }

}  // namespace crisp
