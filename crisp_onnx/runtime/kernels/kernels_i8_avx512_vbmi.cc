// The int8 microkernels for AVX-512 with VNNI and VBMI: a single permutation picks a step's activations.
#include "i8_avx512.h"
#include "i8_shared_rows.h"
#include "i8_small_planes.h"

namespace crisp {
namespace {

struct Vbmi {
  struct Selector {
    __m512i bytes;
    CRISP_INLINE explicit Selector(const uint8_t* columns) {
      const __m512i lanes = _mm512_setr_epi32(0, 0x04040404, 0x08080808, 0x0C0C0C0C, 0x10101010, 0x14141414, 0x18181818,
                                              0x1C1C1C1C, 0x20202020, 0x24242424, 0x28282828, 0x2C2C2C2C, 0x30303030,
                                              0x34343434, 0x38383838, 0x3C3C3C3C);
      bytes = _mm512_add_epi8(_mm512_set1_epi32(four_bytes(columns)), lanes);
    }
    CRISP_INLINE __m512i pick(__m512i a, __m512i b) const { return _mm512_permutex2var_epi8(a, bytes, b); }
  };

  // Every `Step`-th number of two vectors of them in turn, from `First` on.
  template <class Number, int First, int Step>
  struct InTurn {
    static constexpr int kNumbers = 64 / sizeof(Number);
    alignas(64) Number order[kNumbers] = {};
    constexpr InTurn() {
      for (int i = 0; i < kNumbers; ++i) order[i] = static_cast<Number>(First + i / 2 * Step + i % 2 * kNumbers);
    }
    static CRISP_INLINE __m512i load() {
      static constexpr InTurn kOrder;
      return _mm512_load_si512(kOrder.order);
    }
  };

  // 32 positions from the bytes that `order` takes of two channels each, in pairs.
  static CRISP_INLINE void store_32(uint8_t* to, __m512i ab, __m512i cd, int64_t count) {
    const __m512i low = _mm512_permutex2var_epi16(ab, InTurn<uint16_t, 0, 1>::load(), cd);
    const __m512i high = _mm512_permutex2var_epi16(ab, InTurn<uint16_t, 16, 1>::load(), cd);
    if (count >= 32) {
      _mm512_storeu_si512(to, low);
      _mm512_storeu_si512(to + 64, high);
      return;
    }
    const __mmask32 positions = (__mmask32{1} << count) - 1;
    _mm512_mask_storeu_epi32(to, static_cast<__mmask16>(positions), low);
    if (count > 16) _mm512_mask_storeu_epi32(to + 64, static_cast<__mmask16>(positions >> 16), high);
  }

  static CRISP_INLINE void weave(uint8_t* to, const FourRows& from, int64_t count) {
    const __m512i low = InTurn<uint8_t, 0, 1>::load(), high = InTurn<uint8_t, 32, 1>::load();
    for (int64_t j = 0; j < count; j += 64, to += 256) {
      const __mmask64 bytes = first_bytes(count - j);
      __m512i row[4];
      CRISP_UNROLL for (int i = 0; i < 4; ++i) row[i] = _mm512_maskz_loadu_epi8(bytes, from.at[i] + j);
      store_32(to, _mm512_permutex2var_epi8(row[0], low, row[1]), _mm512_permutex2var_epi8(row[2], low, row[3]),
               count - j);
      if (count - j <= 32) return;
      store_32(to + 128, _mm512_permutex2var_epi8(row[0], high, row[1]),
               _mm512_permutex2var_epi8(row[2], high, row[3]), count - j - 32);
    }
  }

  static CRISP_INLINE void weave_even(uint8_t* to, const FourRows& from, int64_t count) {
    const __m512i even = InTurn<uint8_t, 0, 2>::load();
    for (int64_t j = 0; j < count; j += 32, to += 128) {
      const __mmask64 bytes = first_bytes(2 * (count - j) - 1);
      __m512i row[4];
      CRISP_UNROLL for (int i = 0; i < 4; ++i) row[i] = _mm512_maskz_loadu_epi8(bytes, from.at[i] + 2 * j);
      store_32(to, _mm512_permutex2var_epi8(row[0], even, row[1]), _mm512_permutex2var_epi8(row[2], even, row[3]),
               count - j);
    }
  }
};

using Instructions = Avx512Int8<Vbmi>;

// The taps of 16 neighbouring outputs, out of 64 bytes.
struct WindowsOf16 {
  __m512i order;

  static bool can(const WindowCall& call) { return 15 * call.stride_w + 3 * call.dilation_w < 64; }
  explicit WindowsOf16(const WindowCall& call) {
    // Byte t of lane i: i * stride_w + t * tap_stride, which are below 64.
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i strides = _mm512_set1_epi32(static_cast<int32_t>(call.stride_w) * 0x01010101);
    const __m512i taps = _mm512_set1_epi32(static_cast<int32_t>(call.dilation_w) * 0x03020100);
    order = _mm512_add_epi32(_mm512_mullo_epi32(lanes, strides), taps);
  }
  CRISP_INLINE __m512i at(const uint8_t* p) const { return _mm512_permutexvar_epi8(order, _mm512_loadu_si512(p)); }
  static CRISP_INLINE void store(uint8_t* y, __m512i sums, int64_t count) { store_first_bytes(y, sums, count); }
};

void window_of_any_size(const WindowCall& call) {
  if (run_small_planes(call) || run_rows(call)) return;
  run_window<Instructions, WindowsOf16>(call);
}

// The whole table lies in four registers; a byte's highest bit says in which two.
void look_up_in_registers(const LookUpCall& call) {
  __m512i table[4];
  CRISP_UNROLL for (int i = 0; i < 4; ++i) table[i] = _mm512_loadu_si512(call.table + 64 * i);
  for (int64_t i = 0; i < call.count; i += 64) {
    const __mmask64 bytes = first_bytes(call.count - i);
    const __m512i x = _mm512_maskz_loadu_epi8(bytes, call.x + i);
    const __m512i low = _mm512_permutex2var_epi8(table[0], x, table[1]);
    const __m512i high = _mm512_permutex2var_epi8(table[2], x, table[3]);
    _mm512_mask_storeu_epi8(call.y + i, bytes, _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high));
  }
}

#define KERNEL(rows, vectors, tail, strip) \
  int8_kernel_row<Instructions, rows, vectors, tail, strip>("i8_hybrid_" #rows "x" #strip "__avx512_vbmi")

constexpr Kernel kKernels[] = {CRISP_INT8_AVX512_KERNELS(KERNEL)};

constexpr KernelSet kSet = {Element::kInt8, Isa::kAvx512Vbmi, Instructions::kLanes, kKernels,
                            sizeof(kKernels) / sizeof(kKernels[0]), true, pack_units<Instructions>, turn_units_of_16,
                            turn_tile_of_bytes<SseZips>, window_of_any_size, look_up_in_registers};

}  // namespace

const KernelSet kAvx512VbmiInt8Kernels = kSet;

}  // namespace crisp
