// The int8 microkernels for AVX2. The instruction that multiplies bytes saturates sums of two products at 16 bits: for
// weights of which all pairs fit, it is taken; for others, products are added as 16-bit words in 32 bits.
#include "i8_avx2.h"
#include "i8_table.h"

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

// For weights with `pairs_fit`.
struct Pairs : WholeBytes {
  static CRISP_INLINE __m256i dot(__m256i sums, __m256i x, __m256i w) {
    const __m256i pairs = _mm256_maddubs_epi16(x, w);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

template <class Product>
constexpr KernelSet set_of(const Kernel* kernels, int count, const KernelSet* of_pairs) {
  using Instructions = Avx2Int8<Product>;
  // The weights of depthwise convolutions have a scale a channel and any pairs.
  return {Element::kInt8, Isa::kAvx2, Instructions::kLanes, kernels, count, false, pack_units<Instructions>,
          turn_units_of_8, turn_tile_of_bytes<SseZips>, run_window<Avx2Int8<Words>, WindowsOf8<Words>>,
          look_up_in_shuffles, of_pairs};
}

#define KERNEL(rows, vectors, strip) \
  int8_kernel_row<Avx2Int8<Words>, rows, vectors, 0, strip>("i8_hybrid_" #rows "x" #strip "__avx2")
#define PAIR_KERNEL(rows, vectors, strip) \
  int8_kernel_row<Avx2Int8<Pairs>, rows, vectors, 0, strip>("i8_hybridpair_" #rows "x" #strip "__avx2")

constexpr Kernel kKernels[] = {
    KERNEL(4, 2, 16), KERNEL(4, 1, 8), KERNEL(2, 3, 24), KERNEL(2, 2, 16), KERNEL(2, 1, 8),
    KERNEL(1, 4, 32), KERNEL(1, 2, 16), KERNEL(1, 1, 8),
};

constexpr Kernel kPairKernels[] = {
    PAIR_KERNEL(4, 2, 16), PAIR_KERNEL(4, 1, 8), PAIR_KERNEL(2, 3, 24), PAIR_KERNEL(2, 2, 16), PAIR_KERNEL(2, 1, 8),
    PAIR_KERNEL(1, 4, 32), PAIR_KERNEL(1, 2, 16), PAIR_KERNEL(1, 1, 8),
};

template <int N>
constexpr int count_of(const Kernel (&)[N]) {
  return N;
}

}  // namespace

const KernelSet kAvx2Int8PairKernels = set_of<Pairs>(kPairKernels, count_of(kPairKernels), nullptr);
const KernelSet kAvx2Int8Kernels = set_of<Words>(kKernels, count_of(kKernels), &kAvx2Int8PairKernels);

}  // namespace crisp
