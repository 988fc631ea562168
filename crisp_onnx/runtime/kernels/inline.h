// How the inner loops are told apart from other functions: unrolled, inlined, or kept out of line.
#pragma once

#if defined(__clang__)
#define CRISP_UNROLL _Pragma("unroll")
#define CRISP_INLINE inline __attribute__((always_inline))
#define CRISP_NOINLINE __attribute__((noinline))
#elif defined(__GNUC__)
#define CRISP_UNROLL _Pragma("GCC unroll 16")
#define CRISP_INLINE inline __attribute__((always_inline))
#define CRISP_NOINLINE __attribute__((noinline))
#else
#define CRISP_UNROLL
#define CRISP_INLINE __forceinline
#define CRISP_NOINLINE __declspec(noinline)
#endif
