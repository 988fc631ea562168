// The int8 microkernels for 64-bit ARM with dot products: 4 positions a vector, 32 registers. The instruction multiplies
// signed bytes alone, so that activations count less by 128; what that takes from a row's sums, 128 times its weights, is
// summed up once a step.
#include <arm_neon.h>

#include "i8_pack.h"
#include "i8_plain.h"
#include "i8_turn.h"
#include "i8_window.h"

namespace crisp {
namespace {

CRISP_INLINE uint8x16_t selected(const uint8_t* columns) {
  uint32_t four;
  __builtin_memcpy(&four, columns, sizeof four);
  return vreinterpretq_u8_u32(vdupq_n_u32(four));
}

struct NeonDot {
  static constexpr int kLanes = 4;
  static constexpr bool kRoomBesideLoads = false;
  static constexpr bool kStoresFourRows = false;

  using Sums = int32x4_t;
  using Floats = float32x4_t;
  using Quads = uint8x16_t;
  using Picked = int8x16_t;
  using Mask = int;

  static CRISP_INLINE Sums no_sums() { return vdupq_n_s32(0); }
  static CRISP_INLINE Sums all(int32_t n) { return vdupq_n_s32(n); }
  static CRISP_INLINE Sums load_sums(const int32_t* p) { return vld1q_s32(p); }
  static CRISP_INLINE void store_sums(int32_t* p, Sums s) { vst1q_s32(p, s); }
  static CRISP_INLINE Sums load_bytes(const uint8_t* p) {
    const int32_t four[4] = {p[0], p[1], p[2], p[3]};
    return vld1q_s32(four);
  }
  static CRISP_INLINE void store_bytes(uint8_t* p, Sums s) {
    const uint16x4_t words = vmovn_u32(vreinterpretq_u32_s32(s));
    const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))), 0);
    __builtin_memcpy(p, &four, sizeof four);
  }
  static CRISP_INLINE Sums add(Sums a, Sums b) { return vaddq_s32(a, b); }
  static CRISP_INLINE Sums subtract(Sums a, Sums b) { return vsubq_s32(a, b); }
  static CRISP_INLINE Sums least(Sums a, Sums b) { return vminq_s32(a, b); }
  static CRISP_INLINE Sums greatest(Sums a, Sums b) { return vmaxq_s32(a, b); }

  static CRISP_INLINE Floats all_floats(float f) { return vdupq_n_f32(f); }
  static CRISP_INLINE Floats load_floats(const float* p) { return vld1q_f32(p); }
  static CRISP_INLINE Floats floats_of(Sums s) { return vcvtq_f32_s32(s); }
  static CRISP_INLINE Floats times(Floats a, Floats b) { return vmulq_f32(a, b); }
  static CRISP_INLINE Floats times_plus(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
  static CRISP_INLINE Sums rounded(Floats f) { return vcvtnq_s32_f32(vmaxq_f32(f, vdupq_n_f32(-1e9f))); }
  static CRISP_INLINE Floats least_floats(Floats a, Floats b) { return vminq_f32(a, b); }

  // Places in a table of both units' 32 bytes.
  struct Selector {
    uint8x16_t place;
    CRISP_INLINE explicit Selector(const uint8_t* columns) {
      const uint8x16_t four = selected(columns), second = vandq_u8(four, vdupq_n_u8(kSecondUnitBit));
      static const uint8_t kLaneStarts[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
      const uint8x16_t byte = vbicq_u8(four, vdupq_n_u8(kSecondUnitBit));
      place = vaddq_u8(vaddq_u8(byte, vshrq_n_u8(second, 2)), vld1q_u8(kLaneStarts));
    }
  };

  static CRISP_INLINE Mask mask_of(uint32_t) { return 0; }
  static CRISP_INLINE Quads all_bytes(uint8_t byte) { return vdupq_n_u8(byte); }
  static CRISP_INLINE Quads load(const uint8_t* p) { return vld1q_u8(p); }
  static CRISP_INLINE Quads load_masked(const uint8_t* p, Mask, Quads) { return load(p); }  // has no masks
  static CRISP_INLINE Picked less_128(uint8x16_t four) {
    return vreinterpretq_s8_u8(veorq_u8(four, vdupq_n_u8(0x80)));
  }
  static CRISP_INLINE Picked pick(Quads a, Quads b, const Selector& s) {
    return less_128(vqtbl2q_u8(uint8x16x2_t{{a, b}}, s.place));
  }
  // From the address of a byte less its place in the lane, a lane's load brings the byte to its place.
  static CRISP_INLINE Picked pick_places(const uint8_t* const (&at)[kStepColumns], int from) {
    uint8x16_t four = load(at[0] + from);
    CRISP_UNROLL for (int i = 1; i < kStepColumns; ++i) {
      const uint8x16_t byte = vreinterpretq_u8_u32(vdupq_n_u32(0xFFu << (8 * i)));
      four = vbslq_u8(byte, load(at[i] + from - i), four);
    }
    return less_128(four);
  }

  template <int V>
  struct StepWeights {
    const int8_t* four;
    CRISP_INLINE explicit StepWeights(const int8_t* w) : four(w) {}
    CRISP_INLINE int8x16_t row(int v) const {
      return vreinterpretq_s8_u8(selected(reinterpret_cast<const uint8_t*>(four + v * kStepColumns)));
    }
  };
  static CRISP_INLINE Sums dot(Sums sums, Picked x, int8x16_t w) { return vdotq_s32(sums, x, w); }
  static CRISP_INLINE void keep_in_register(int8x16_t& v) { asm("" : "+w"(v)); }

  // Of V rows: the sums of their weights.
  template <int V>
  struct Correction {
    static constexpr bool kNone = false;
    int32x4_t sums[(V + 3) / 4];
    CRISP_INLINE Correction() {
      for (int32x4_t& s : sums) s = vdupq_n_s32(0);
    }
    CRISP_INLINE void add(const int8_t* w) {
      CRISP_UNROLL for (int i = 0; i < (V + 3) / 4; ++i) {
        const int8x16_t four = V >= 4   ? vld1q_s8(w + 16 * i)
                               : V == 2 ? vcombine_s8(vld1_s8(w), vdup_n_s8(0))
                                        : vreinterpretq_s8_u8(selected(reinterpret_cast<const uint8_t*>(w)));
        sums[i] = vdotq_s32(sums[i], four, vdupq_n_s8(1));
      }
    }
    CRISP_INLINE Sums of(int v) const {
      int32_t rows[(V + 3) / 4 * 4];
      CRISP_UNROLL for (int i = 0; i < (V + 3) / 4; ++i) vst1q_s32(rows + 4 * i, vshlq_n_s32(sums[i], 7));
      return vdupq_n_s32(rows[v]);
    }
  };

  template <int V>
  using Rows = PlainRows<V>;
  template <int V>
  using RowWeights = PlainRowWeights<V>;

  static CRISP_INLINE void weave(uint8_t* to, const FourRows& from, int64_t count, int64_t stride) {
    int64_t j = 0;
    for (; stride == 1 && j + 16 <= count; j += 16, to += 16 * kStepColumns) {
      vst4q_u8(to, uint8x16x4_t{{load(from.at[0] + j), load(from.at[1] + j), load(from.at[2] + j), load(from.at[3] + j)}});
    }
    for (; stride == 2 && j + 16 < count; j += 16, to += 16 * kStepColumns) {  // the last is read with its neighbour
      vst4q_u8(to, uint8x16x4_t{{vld2q_u8(from.at[0] + 2 * j).val[0], vld2q_u8(from.at[1] + 2 * j).val[0],
                                 vld2q_u8(from.at[2] + 2 * j).val[0], vld2q_u8(from.at[3] + 2 * j).val[0]}});
    }
    weave_plainly(to, from.plus(j * stride), count - j, stride);
  }
  static CRISP_INLINE void prefetch(const int8_t* p) { __builtin_prefetch(p); }
};

struct NeonZips {
  using Vec = uint8x16_t;
  static CRISP_INLINE Vec load(const uint8_t* p) { return vld1q_u8(p); }
  static CRISP_INLINE void store(uint8_t* p, Vec v) { vst1q_u8(p, v); }
  static CRISP_INLINE Vec zip_low(Vec a, Vec b) { return vzip1q_u8(a, b); }
  static CRISP_INLINE Vec zip_high(Vec a, Vec b) { return vzip2q_u8(a, b); }
};

#define KERNEL(rows, vectors, strip) \
  int8_kernel_row<NeonDot, rows, vectors, 0, strip>("i8_hybrid_" #rows "x" #strip "__neon_dot")

constexpr Kernel kKernels[] = {
    KERNEL(8, 2, 8), KERNEL(8, 1, 4), KERNEL(4, 4, 16), KERNEL(4, 2, 8), KERNEL(4, 1, 4),
    KERNEL(2, 6, 24), KERNEL(2, 4, 16), KERNEL(2, 2, 8), KERNEL(2, 1, 4),
    KERNEL(1, 8, 32), KERNEL(1, 4, 16), KERNEL(1, 2, 8), KERNEL(1, 1, 4),
};

constexpr KernelSet kSet = {Element::kInt8, Isa::kNeonDot, NeonDot::kLanes, kKernels,
                            sizeof(kKernels) / sizeof(kKernels[0]), false, pack_units<NeonDot>, turn_units,
                            turn_tile_of_bytes<NeonZips>, window_plainly, look_up_plainly};

}  // namespace

const KernelSet kNeonDotInt8Kernels = kSet;

}  // namespace crisp
