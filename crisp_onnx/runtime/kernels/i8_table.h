// A function of single bytes with AVX2's shuffle of 16 bytes: for processors without VBMI. Internal linkage, as in
// microkernel.h.
#pragma once

#include <immintrin.h>

#include "i8_window.h"

namespace crisp {
namespace {

// Each 16 entries of the table serve the bytes that are less than 16 above their first: all others reach the highest bit
// and shuffle to zero.
inline void look_up_in_shuffles(const LookUpCall& call) {
  constexpr int kRows = 16, kBytes = 32;
  const auto load = [](const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
  __m256i rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = _mm256_broadcastsi128_si256(load(call.table + r * 16));
  const __m256i out_of_row = _mm256_set1_epi8(0x70), row = _mm256_set1_epi8(16);
  int64_t i = 0;
  for (; i + kBytes <= call.count; i += kBytes) {
    __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(call.x + i)), found = _mm256_setzero_si256();
    CRISP_UNROLL for (int r = 0; r < kRows; ++r) {
      found = _mm256_or_si256(found, _mm256_shuffle_epi8(rows[r], _mm256_adds_epu8(x, out_of_row)));
      x = _mm256_sub_epi8(x, row);
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(call.y + i), found);
  }
  look_up_plainly({call.table, call.x + i, call.y + i, call.count - i});
}

}  // namespace
}  // namespace crisp
