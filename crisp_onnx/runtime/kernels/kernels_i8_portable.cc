// The int8 microkernels in plain C++: any processor.
#include "i8_pack.h"
#include "i8_plain.h"
#include "i8_window.h"

namespace crisp {
namespace {

struct Lanes {
  int32_t lane[4];
};

struct PlainInt8 {
  static constexpr int kLanes = 4;
  static constexpr bool kRoomBesideLoads = false;
  static constexpr bool kStoresFourRows = false;

  using Sums = Lanes;
  struct Floats {
    float lane[4];
  };
  struct Quads {
    uint8_t byte[4 * kStepColumns];
  };
  using Picked = Quads;
  using Mask = int;

  struct Selector {
    const uint8_t* column;
    CRISP_INLINE explicit Selector(const uint8_t* columns) : column(columns) {}
  };

  template <class F>
  static CRISP_INLINE Sums each(F f) {
    Sums sums;
    CRISP_UNROLL for (int i = 0; i < kLanes; ++i) sums.lane[i] = f(i);
    return sums;
  }
  template <class F>
  static CRISP_INLINE Floats each_float(F f) {
    Floats found;
    CRISP_UNROLL for (int i = 0; i < kLanes; ++i) found.lane[i] = f(i);
    return found;
  }

  static CRISP_INLINE Sums no_sums() { return {}; }
  static CRISP_INLINE Sums all(int32_t n) { return {{n, n, n, n}}; }
  static CRISP_INLINE Sums load_sums(const int32_t* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static CRISP_INLINE void store_sums(int32_t* p, const Sums& s) {
    CRISP_UNROLL for (int i = 0; i < kLanes; ++i) p[i] = s.lane[i];
  }
  static CRISP_INLINE Sums load_bytes(const uint8_t* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static CRISP_INLINE void store_bytes(uint8_t* p, const Sums& s) {
    CRISP_UNROLL for (int i = 0; i < kLanes; ++i) p[i] = static_cast<uint8_t>(s.lane[i]);
  }
  static CRISP_INLINE Sums add(const Sums& a, const Sums& b) {
    return each([&](int i) { return wrapping_sum(a.lane[i], b.lane[i]); });
  }
  static CRISP_INLINE Sums subtract(const Sums& a, const Sums& b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static CRISP_INLINE Sums least(const Sums& a, const Sums& b) {
    return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static CRISP_INLINE Sums greatest(const Sums& a, const Sums& b) {
    return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }

  static CRISP_INLINE Floats all_floats(float f) { return {{f, f, f, f}}; }
  static CRISP_INLINE Floats load_floats(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static CRISP_INLINE Floats floats_of(const Sums& s) {
    return each_float([&](int i) { return static_cast<float>(s.lane[i]); });
  }
  static CRISP_INLINE Floats times(const Floats& a, const Floats& b) {
    return each_float([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static CRISP_INLINE Floats times_plus(const Floats& a, const Floats& b, const Floats& c) {
    return each_float([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static CRISP_INLINE Sums rounded(const Floats& f) {
    return each([&](int i) { return static_cast<int32_t>(std::nearbyint(f.lane[i] > -1e9f ? f.lane[i] : -1e9f)); });
  }
  static CRISP_INLINE Floats least_floats(const Floats& a, const Floats& b) {
    return each_float([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }

  static CRISP_INLINE Quads load(const uint8_t* p) {
    Quads quads;
    CRISP_UNROLL for (int i = 0; i < kLanes * kStepColumns; ++i) quads.byte[i] = p[i];
    return quads;
  }
  static CRISP_INLINE Quads load_masked(const uint8_t* p, Mask, const Quads&) { return load(p); }  // has no masks
  static CRISP_INLINE Quads all_bytes(uint8_t) { return {}; }
  static CRISP_INLINE Mask mask_of(uint32_t) { return 0; }
  static CRISP_INLINE Picked pick(const Quads& a, const Quads& b, const Selector& s) {
    Picked picked;
    CRISP_UNROLL for (int lane = 0; lane < kLanes; ++lane) CRISP_UNROLL for (int i = 0; i < kStepColumns; ++i) {
      const int at = lane * kStepColumns + s.column[i] % kStepColumns;
      picked.byte[lane * kStepColumns + i] = s.column[i] & kSecondUnitBit ? b.byte[at] : a.byte[at];
    }
    return picked;
  }
  static CRISP_INLINE Picked pick_places(const uint8_t* const (&at)[kStepColumns], int from) {
    Picked picked;
    CRISP_UNROLL for (int lane = 0; lane < kLanes; ++lane) CRISP_UNROLL for (int i = 0; i < kStepColumns; ++i) {
      picked.byte[lane * kStepColumns + i] = at[i][from + lane * kStepColumns];
    }
    return picked;
  }

  template <int V>
  struct StepWeights {
    const int8_t* four;
    CRISP_INLINE explicit StepWeights(const int8_t* w) : four(w) {}
    CRISP_INLINE const int8_t* row(int v) const { return four + v * kStepColumns; }
  };
  static CRISP_INLINE Sums dot(const Sums& sums, const Picked& x, const int8_t* w) {
    return each([&](int lane) {
      int32_t step = 0;
      CRISP_UNROLL for (int i = 0; i < kStepColumns; ++i) step += x.byte[lane * kStepColumns + i] * w[i];
      return wrapping_sum(sums.lane[lane], step);
    });
  }

  template <int V>
  using Rows = PlainRows<V>;
  template <int V>
  using RowWeights = PlainRowWeights<V>;
  template <int V>
  using Correction = NoCorrection;
  template <int T, bool Masked>
  static CRISP_INLINE PlainTail<T> pick_tail(const uint8_t* a, const uint8_t* b, const Selector& s, uint32_t,
                                             const Quads&) {
    return plain_tail<T>(a, b, s.column, ~uint32_t{0}, 0);
  }
  template <int T>
  static CRISP_INLINE PlainTail<T> pick_tail_places(const uint8_t* const (&at)[kStepColumns], int from) {
    return plain_tail<T>(at, from);
  }

  static CRISP_INLINE void weave(uint8_t* to, const FourRows& from, int64_t count, int64_t stride) {
    weave_plainly(to, from, count, stride);
  }
  static CRISP_INLINE void prefetch(const int8_t*) {}
  static CRISP_INLINE void keep_in_register(const int8_t*) {}
};

#define KERNEL(rows, vectors, tail, strip) \
  int8_kernel_row<PlainInt8, rows, vectors, tail, strip>("i8_hybrid_" #rows "x" #strip "__portable")

constexpr Kernel kKernels[] = {
    KERNEL(4, 2, 0, 8), KERNEL(4, 1, 0, 4), KERNEL(4, 1, 1, 5), KERNEL(4, 0, 1, 1),
    KERNEL(2, 4, 0, 16), KERNEL(2, 2, 0, 8), KERNEL(2, 1, 0, 4), KERNEL(2, 0, 1, 1),
    KERNEL(1, 6, 0, 24), KERNEL(1, 4, 0, 16), KERNEL(1, 2, 0, 8), KERNEL(1, 1, 0, 4), KERNEL(1, 0, 1, 1),
};

constexpr KernelSet kSet = {Element::kInt8, Isa::kPortable, PlainInt8::kLanes, kKernels,
                            sizeof(kKernels) / sizeof(kKernels[0]), false, pack_units<PlainInt8>, turn_units, turn_bytes,
                            window_plainly, look_up_plainly};

}  // namespace

const KernelSet kPortableInt8Kernels = kSet;

}  // namespace crisp
