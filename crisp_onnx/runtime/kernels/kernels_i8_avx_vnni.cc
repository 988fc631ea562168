// The int8 microkernels for AVX-VNNI: dot products of 256 bits, on processors without AVX-512.
#include "i8_avx2.h"
#include "i8_table.h"

namespace crisp {
namespace {

struct Fours : WholeBytes {
  static CRISP_INLINE __m256i dot(__m256i sums, __m256i x, __m256i w) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)  // a test's build: the same instruction, encoded for AVX-512
    return _mm256_dpbusd_epi32(sums, x, w);
#else
    return _mm256_dpbusd_avx_epi32(sums, x, w);
#endif
  }
};

using Instructions = Avx2Int8<Fours>;

#define KERNEL(rows, vectors, strip) \
  int8_kernel_row<Instructions, rows, vectors, 0, strip>("i8_hybrid_" #rows "x" #strip "__avx_vnni")

constexpr Kernel kKernels[] = {
    KERNEL(4, 3, 24), KERNEL(4, 2, 16), KERNEL(4, 1, 8), KERNEL(2, 4, 32), KERNEL(2, 2, 16), KERNEL(2, 1, 8),
    KERNEL(1, 6, 48), KERNEL(1, 4, 32), KERNEL(1, 2, 16), KERNEL(1, 1, 8),
};

constexpr KernelSet kSet = {Element::kInt8, Isa::kAvxVnni, Instructions::kLanes, kKernels,
                            sizeof(kKernels) / sizeof(kKernels[0]), false, pack_units<Instructions>, turn_units_of_8,
                            turn_tile_of_bytes<SseZips>, run_window<Instructions, WindowsOf8<Fours>>,
                            look_up_in_shuffles};

}  // namespace

const KernelSet kAvxVnniInt8Kernels = kSet;

}  // namespace crisp
