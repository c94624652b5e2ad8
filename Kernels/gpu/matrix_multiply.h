// A warp's multiplication of one step on a matrix unit, or on what emulates it.
//
//     MULTIPLY(f, sums)   sums[i][j] += f->a[i] f->b[j], in a kernel that has `lane`, `warp` and EXCHANGE_MEMORY
#ifndef GRAFT_GPU_MATRIX_MULTIPLY_H
#define GRAFT_GPU_MATRIX_MULTIPLY_H
#include "gpu/matrix_unit.h"

#if MATRIX_UNIT == 7

#define EXCHANGE_MEMORY  // a warp group multiplies what lies in local memory

#elif EMULATED

#define EXCHANGE_MEMORY __local uint exchange[ITEMS * EXCHANGE_WORDS];
#define MULTIPLY(f, sums)                         \
  put_registers(f, exchange);                     \
  LOCAL_BARRIER;                                  \
  multiply_registers(exchange, sums, lane, warp); \
  LOCAL_BARRIER;

#else

static inline void multiply_fragments(const Fragments *f, float sums[FRAGMENTS_M][FRAGMENTS_N][SUMS]) {
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; ++i) {
#pragma unroll
    // There and back, so that neighbours share a fragment of B.
    for (int n = 0; n < FRAGMENTS_N; ++n) {
      const int j = i % 2 ? FRAGMENTS_N - 1 - n : n;
      multiply_fragment(sums[i][j], f->a[i], f->b[j]);
    }
  }
}

#ifndef ROUND
#define ROUND(f)
#endif
#define EXCHANGE_MEMORY
#define MULTIPLY(f, sums) ROUND(f) multiply_fragments(f, sums);

#endif
#endif
