// The int8 microkernels for AVX2. Products are added as 16-bit words in 32 bits: the instruction that multiplies bytes
// would saturate sums of two products.
#include "i8_avx2.h"

namespace crisp {
namespace {

struct Words {
  // Columns 0 and 2, and columns 1 and 3, as words.
  struct Picked {
    __m256i even, odd;
  };
  using Weights = Picked;

  static CRISP_INLINE Picked picked(__m256i four) {
    return {_mm256_and_si256(four, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16(four, 8)};
  }
  static CRISP_INLINE Weights weights(__m256i four) {
    return {_mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8), _mm256_srai_epi16(four, 8)};
  }
  static CRISP_INLINE __m256i dot(__m256i sums, const Picked& x, const Weights& w) {
    const __m256i even = _mm256_madd_epi16(x.even, w.even), odd = _mm256_madd_epi16(x.odd, w.odd);
    return _mm256_add_epi32(sums, _mm256_add_epi32(even, odd));
  }
  static CRISP_INLINE void keep_in_register(Weights&) {}
};

using Instructions = Avx2Int8<Words>;

#define KERNEL(rows, vectors, strip) \
  int8_kernel_row<Instructions, rows, vectors, 0, strip>("i8_hybrid_" #rows "x" #strip "__avx2")

constexpr Kernel kKernels[] = {
    KERNEL(4, 2, 16), KERNEL(4, 1, 8), KERNEL(2, 3, 24), KERNEL(2, 2, 16), KERNEL(2, 1, 8),
    KERNEL(1, 4, 32), KERNEL(1, 2, 16), KERNEL(1, 1, 8),
};

constexpr KernelSet kSet = {Element::kInt8, Isa::kAvx2, Instructions::kLanes, kKernels,
                            sizeof(kKernels) / sizeof(kKernels[0]), false, pack_units<Instructions>, turn_units_of_8,
                            turn_tile_of_bytes<SseZips>, run_window<Instructions, WindowsOf8<Words>>, look_up_plainly};

}  // namespace

const KernelSet kAvx2Int8Kernels = kSet;

}  // namespace crisp
