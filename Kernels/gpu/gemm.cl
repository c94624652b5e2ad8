// Matrix product:  y[b] = epilogue(op(a[b]) op(b[b])),  op(a): [m, k], op(b): [k, n], y: [m, n].
//
//     op(a)(i, t) = a[b strideA + i lda + t]   or, with TRANSPOSE_A,  a[b strideA + t lda + i]
//     op(b)(t, j) = b[b strideB + t ldb + j]   or, with TRANSPOSE_B,  b[b strideB + j ldb + t]
//
// Work-groups: one dimension,  index = ((split batch + b) block rows + …) block columns + …  (tile.h: block_of). With
// several splits, split s sums its share of k and stores it at  y + s batch strideY; split_sum.cl adds the shares in order
// and applies the epilogue (its program has PARTIAL 1: shares are float32). The number of splits is what the grid says.
//
// VECTOR_A, VECTOR_B: 4 needs rows that begin at multiples of 4 elements and hold whole vectors (k or, across k, m and n
// multiples of 4; a packed b may instead be padded: ldb a multiple of 4, at least n rounded up to one).
#include "gpu/tile.h"

#ifndef TRANSPOSE_A
#define TRANSPOSE_A 0
#endif
#ifndef TRANSPOSE_B
#define TRANSPOSE_B 0
#endif

#if TRANSPOSE_A
#define FETCH_A fetch_across_k
#define PUT_A put_across_k
#else
#define FETCH_A fetch_along_k
#define PUT_A put_along_k
#endif
#if TRANSPOSE_B
#define FETCH_B fetch_along_k
#define PUT_B put_along_k
#else
#define FETCH_B fetch_across_k
#define PUT_B put_across_k
#endif

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void gemm(
    __global const element *restrict a, __global const element *restrict b, __global const float *restrict bias,
    __global const element *restrict residual, __global sum_element *restrict y, const GraftGemmParams p) {
  TILE_MEMORY
  GROUP_PART(p.m, p.n, p.k, matrix, p.batch)
  a += (size_t)matrix * p.strideA;
  b += (size_t)matrix * p.strideB;

  TILE_SUMS
#define FETCH(k)                                                                                \
  FETCH_A(a, p.lda, firstRow, p.m, k, endK, carryA, TILE_M, VECTOR_A);                          \
  FETCH_B(b, p.ldb, firstColumn, p.n, k, endK, carryB, TILE_N, VECTOR_B);
#define PUT(toA, toB)                                                                           \
  PUT_A(carryA, toA, TILE_M, VECTOR_A);                                                         \
  PUT_B(carryB, toB, TILE_N, VECTOR_B);
  TILE_LOOP(localA, localB, firstK, endK, FETCH, PUT)

  store_block(sums, firstRow, p.m, firstColumn, p.n, bias, residual + (size_t)matrix * p.strideR, p.ldr,
              y + (size_t)slice * p.strideY, p.ldy, p.epilogue);
}
