// The microkernels for AVX2 with FMA: 8 positions a vector, 16 registers. Groups of more than four rows run as
// several calls of four: with eight rows there is no room for three vectors of positions.
#include <immintrin.h>

#include "microkernel.h"
#include "pack_planes.h"
#include "row_kernel.h"
#include "turn.h"

namespace crisp {
namespace {

alignas(32) constexpr int32_t kLaneBits[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

struct Avx2 {
  using Vec = __m256;
  using Mask = __m256i;
  static constexpr int kLanes = 8;
  static constexpr uint32_t kFull = 0xFF;
  static constexpr bool kRoomBesideLoads = false;

  static CRISP_INLINE Vec zero() { return _mm256_setzero_ps(); }
  static CRISP_INLINE Vec set1(const float* p) { return _mm256_broadcast_ss(p); }
  static CRISP_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static CRISP_INLINE Mask mask(int count) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLaneBits + 8 - count));
  }
  static CRISP_INLINE Vec load_masked(const float* p, Mask m) { return _mm256_maskload_ps(p, m); }
  static CRISP_INLINE Vec load_first(const float* p, int count) { return _mm256_maskload_ps(p, mask(count)); }
  static CRISP_INLINE void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
  // Masked stores are microcoded on several processors; a partial vector is stored lane by lane.
  static CRISP_INLINE void store_first(float* p, Vec v, int count) {
    if (count == kLanes) {
      store(p, v);
      return;
    }
    alignas(32) float lanes[kLanes];
    _mm256_store_ps(lanes, v);
    for (int i = 0; i < count; ++i) p[i] = lanes[i];
  }
  static CRISP_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static CRISP_INLINE Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  // Both return the second operand when one is NaN, so NaN reaches the output.
  static CRISP_INLINE Vec max(Vec bound, Vec v) { return _mm256_max_ps(bound, v); }
  static CRISP_INLINE Vec min(Vec bound, Vec v) { return _mm256_min_ps(bound, v); }
  static CRISP_INLINE void prefetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
  static CRISP_INLINE void keep_in_register(Vec& v) {
#if defined(__GNUC__)
    asm("" : "+x"(v));
#else
    (void)v;
#endif
  }

  static CRISP_INLINE Vec compress(Vec v, uint32_t keep, int* count) {
    alignas(32) float lanes[kLanes], kept[kLanes] = {};
    _mm256_store_ps(lanes, v);
    int n = 0;
    for (int i = 0; i < kLanes; ++i) {
      kept[n] = lanes[i];
      n += (keep >> i) & 1;
    }
    *count = n;
    return _mm256_load_ps(kept);
  }

  static CRISP_INLINE void turn(Vec (&rows)[kLanes]) {
    Vec pairs[kLanes], fours[kLanes];
    CRISP_UNROLL for (int r = 0; r < kLanes; r += 2) {
      pairs[r] = _mm256_unpacklo_ps(rows[r], rows[r + 1]);
      pairs[r + 1] = _mm256_unpackhi_ps(rows[r], rows[r + 1]);
    }
    CRISP_UNROLL for (int r = 0; r < kLanes; r += 4) {
      fours[r] = _mm256_shuffle_ps(pairs[r], pairs[r + 2], _MM_SHUFFLE(1, 0, 1, 0));
      fours[r + 1] = _mm256_shuffle_ps(pairs[r], pairs[r + 2], _MM_SHUFFLE(3, 2, 3, 2));
      fours[r + 2] = _mm256_shuffle_ps(pairs[r + 1], pairs[r + 3], _MM_SHUFFLE(1, 0, 1, 0));
      fours[r + 3] = _mm256_shuffle_ps(pairs[r + 1], pairs[r + 3], _MM_SHUFFLE(3, 2, 3, 2));
    }
    CRISP_UNROLL for (int c = 0; c < 4; ++c) {
      rows[c] = _mm256_permute2f128_ps(fours[c], fours[c + 4], 0x20);
      rows[c + 4] = _mm256_permute2f128_ps(fours[c], fours[c + 4], 0x31);
    }
  }

  struct Span {
    int from, to;
    Mask lanes;
  };

  static CRISP_INLINE Span span(int from, int to) { return {from, to, _mm256_andnot_si256(mask(from), mask(to))}; }

  static CRISP_INLINE Vec load_span(const float* p, const Span& s) { return _mm256_maskload_ps(p, s.lanes); }

  // p[2 * lane]; reads nothing before the first or after the last lane of the span.
  static CRISP_INLINE Vec load_even(const float* p, const Span& s) {
    if (s.from == 0 && s.to == kLanes) {
      const Vec a = _mm256_loadu_ps(p), b = _mm256_loadu_ps(p + kLanes - 1);  // b: odd places, not to read a 16th
      const Vec mixed = _mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 2, 0));
      return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), _MM_SHUFFLE(3, 1, 2, 0)));
    }
    alignas(32) float lanes[kLanes] = {};
    for (int i = s.from; i < s.to; ++i) lanes[i] = p[2 * i];
    return _mm256_load_ps(lanes);
  }

  // Neighbouring activations, of which kept ones are picked; those that must not be read count as zero.
  static constexpr int kWindow = 16;
  template <bool Wide>
  struct Window;

  // Row groups done at once: what the registers hold.
  static constexpr int row_groups(int rows, int positions) {
    return rows == 8 ? 2 : rows == 4 || positions == 2 ? 4 : 8;
  }
  static constexpr int most_positions(int rows) { return rows == 1 ? 8 : 5; }

  template <int V>
  struct Rows;
};

template <>
struct Avx2::Window<false> {
  __m256 low, high;

  CRISP_INLINE void load(const float* p, int64_t readable) {
    if (readable >= 16) {
      low = _mm256_loadu_ps(p);
      high = _mm256_loadu_ps(p + 8);
    } else {
      low = load_first(p, static_cast<int>(readable < 0 ? 0 : readable < 8 ? readable : 8));
      high = load_first(p + 8, static_cast<int>(readable < 8 ? 0 : readable - 8));
    }
  }
  CRISP_INLINE __m256 look_up(__m256i places) const {
    const __m256 from_low = _mm256_permutevar8x32_ps(low, places), from_high = _mm256_permutevar8x32_ps(high, places);
    return _mm256_blendv_ps(from_low, from_high, _mm256_castsi256_ps(_mm256_slli_epi32(places, 28)));  // bit 3 decides
  }
};

template <>
struct Avx2::Rows<4> {
  __m128 v;
  static CRISP_INLINE Rows zero() { return {_mm_setzero_ps()}; }
  static CRISP_INLINE Rows load(const float* p) { return {_mm_loadu_ps(p)}; }
  CRISP_INLINE void store(float* p) const { _mm_storeu_ps(p, v); }
  CRISP_INLINE void add(Rows other) { v = _mm_add_ps(v, other.v); }
  CRISP_INLINE void fma(Rows w, const float* x) { v = _mm_fmadd_ps(w.v, _mm_broadcast_ss(x), v); }
};

template <int V>
struct Avx2::Rows {  // kernels of one or two rows have no tail
  static CRISP_INLINE Rows zero() { return {}; }
  static CRISP_INLINE Rows load(const float*) { return {}; }
  CRISP_INLINE void store(float*) const {}
  CRISP_INLINE void add(Rows) {}
  CRISP_INLINE void fma(Rows, const float*) {}
};

#define KERNEL(rows, vectors, tail, strip) \
  kernel_row<Avx2, rows, vectors, tail, strip>("f32_hybrid_" #rows "x" #strip "__avx2")

#define ROW_KERNEL(rows, positions) \
  row_kernel_row<Avx2, rows, positions>("f32_hybridrow_" #rows "x" #positions "__avx2")

constexpr Kernel kKernels[] = {
    KERNEL(4, 3, 0, 24), KERNEL(4, 2, 0, 16), KERNEL(4, 2, 1, 17), KERNEL(4, 2, 2, 18), KERNEL(4, 2, 3, 19),
    KERNEL(4, 1, 0, 8),  KERNEL(4, 1, 1, 9),  KERNEL(4, 1, 2, 10), KERNEL(4, 1, 3, 11),
    KERNEL(4, 0, 1, 1),
    KERNEL(2, 6, 0, 48), KERNEL(2, 5, 0, 40), KERNEL(2, 4, 0, 32), KERNEL(2, 3, 0, 24), KERNEL(2, 2, 0, 16),
    KERNEL(2, 1, 0, 8),
    KERNEL(1, 12, 0, 96), KERNEL(1, 8, 0, 64), KERNEL(1, 6, 0, 48), KERNEL(1, 4, 0, 32), KERNEL(1, 3, 0, 24),
    KERNEL(1, 2, 0, 16), KERNEL(1, 1, 0, 8),
    ROW_KERNEL(8, 1), ROW_KERNEL(4, 2), ROW_KERNEL(4, 1), ROW_KERNEL(2, 2), ROW_KERNEL(2, 1), ROW_KERNEL(1, 2),
    ROW_KERNEL(1, 1),
};

constexpr KernelSet kSet = {Element::kFloat32, Isa::kAvx2, Avx2::kLanes, kKernels, sizeof(kKernels) / sizeof(kKernels[0]),
                            false, pack_channels<Avx2>, turn_matrix<Avx2>, turn_matrix<Avx2>};

}  // namespace

const KernelSet kAvx2Kernels = kSet;

}  // namespace crisp
