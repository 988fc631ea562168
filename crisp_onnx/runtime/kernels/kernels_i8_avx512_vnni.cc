// The int8 microkernels for AVX-512 with VNNI but without VBMI: shuffles inside lanes of 128 bits pick a step's
// activations.
#include "i8_avx512.h"
#include "i8_table.h"

namespace crisp {
namespace {

struct InLanes {
  // A byte whose highest bit is set shuffles to zero.
  struct Selector {
    __m512i first, second;
    CRISP_INLINE explicit Selector(const uint8_t* columns) {
      const __m512i four = _mm512_set1_epi32(four_bytes(columns)), bit = _mm512_set1_epi8(kSecondUnitBit);
      const __m512i lanes = _mm512_set4_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0);
      first = _mm512_add_epi8(_mm512_add_epi8(four, _mm512_and_si512(four, bit)), lanes);
      second = _mm512_xor_si512(first, _mm512_set1_epi8(static_cast<char>(0x80)));
    }
    CRISP_INLINE __m512i pick(__m512i a, __m512i b) const {
      return _mm512_or_si512(_mm512_shuffle_epi8(a, first), _mm512_shuffle_epi8(b, second));
    }
  };

  // 16 positions of four channels, `stored` of them.
  static CRISP_INLINE void weave_16(uint8_t* to, const __m128i (&row)[4], int64_t count) {
    const __m128i ab_low = _mm_unpacklo_epi8(row[0], row[1]), ab_high = _mm_unpackhi_epi8(row[0], row[1]);
    const __m128i cd_low = _mm_unpacklo_epi8(row[2], row[3]), cd_high = _mm_unpackhi_epi8(row[2], row[3]);
    __m512i all = _mm512_castsi128_si512(_mm_unpacklo_epi16(ab_low, cd_low));
    all = _mm512_inserti32x4(all, _mm_unpackhi_epi16(ab_low, cd_low), 1);
    all = _mm512_inserti32x4(all, _mm_unpacklo_epi16(ab_high, cd_high), 2);
    all = _mm512_inserti32x4(all, _mm_unpackhi_epi16(ab_high, cd_high), 3);
    _mm512_mask_storeu_epi8(to, first_bytes(count * kStepColumns), all);
  }

  static CRISP_INLINE void weave(uint8_t* to, const FourRows& from, int64_t count) {
    for (int64_t j = 0; j < count; j += 16, to += 64) {
      const __mmask16 bytes = static_cast<__mmask16>(first_bytes(count - j));
      __m128i row[4];
      CRISP_UNROLL for (int i = 0; i < 4; ++i) row[i] = _mm_maskz_loadu_epi8(bytes, from.at[i] + j);
      weave_16(to, row, count - j);
    }
  }

  static CRISP_INLINE void weave_even(uint8_t* to, const FourRows& from, int64_t count) {
    for (int64_t j = 0; j < count; j += 16, to += 64) {
      const __mmask32 bytes = static_cast<__mmask32>(first_bytes(2 * (count - j) - 1));
      __m128i row[4];
      CRISP_UNROLL for (int i = 0; i < 4; ++i) {
        row[i] = _mm256_cvtepi16_epi8(_mm256_maskz_loadu_epi8(bytes, from.at[i] + 2 * j));
      }
      weave_16(to, row, count - j);
    }
  }
};

using Instructions = Avx512Int8<InLanes>;

// The taps of 16 neighbouring outputs, four in each quarter.
struct WindowsOf16 {
  __m512i order;
  int64_t quarter;

  static bool can(const WindowCall& call) { return four_outputs_fit(call); }
  explicit WindowsOf16(const WindowCall& call) : quarter(4 * call.stride_w) {
    uint8_t places[64];
    for (int64_t i = 0; i < 64; ++i) {
      places[i] = static_cast<uint8_t>(i / 4 % 4 * call.stride_w + i % 4 * call.dilation_w);
    }
    order = _mm512_loadu_si512(places);
  }
  CRISP_INLINE __m512i at(const uint8_t* p) const {
    const auto load = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * quarter)); };
    __m512i four = _mm512_castsi128_si512(load(0));
    four = _mm512_inserti32x4(four, load(1), 1);
    four = _mm512_inserti32x4(four, load(2), 2);
    return _mm512_shuffle_epi8(_mm512_inserti32x4(four, load(3), 3), order);
  }
  static CRISP_INLINE void store(uint8_t* y, __m512i sums, int64_t count) { store_first_bytes(y, sums, count); }
};

#define KERNEL(rows, vectors, tail, strip) \
  int8_kernel_row<Instructions, rows, vectors, tail, strip>("i8_hybrid_" #rows "x" #strip "__avx512_vnni")

constexpr Kernel kKernels[] = {CRISP_INT8_AVX512_KERNELS(KERNEL)};

constexpr KernelSet kSet = {Element::kInt8, Isa::kAvx512Vnni, Instructions::kLanes, kKernels,
                            sizeof(kKernels) / sizeof(kKernels[0]), true, pack_units<Instructions>, turn_units_of_16,
                            turn_tile_of_bytes<SseZips>, run_window<Instructions, WindowsOf16>, look_up_in_shuffles};

}  // namespace

const KernelSet kAvx512VnniInt8Kernels = kSet;

}  // namespace crisp
