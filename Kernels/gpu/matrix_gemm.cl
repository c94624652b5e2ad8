// Matrix product on matrix units: gemm.cl's operands, splits and epilogue in the formats of the unit, products by it, sums in
// float32. Work-groups as in gemm.cl.
//
// A_ALONG_K 0 is a transposed a, B_ALONG_K 1 a transposed b. VECTOR_A and VECTOR_B (16, 8 or 4 bytes): what every row of the operand,
// and k or the extent along it, are multiples of; rows along k may be padded instead.
#include "gpu/matrix_tile.h"

MATRIX_KERNEL void matrix_gemm(
    __global const element *restrict a, __global const element *restrict b, __global const float *restrict bias,
    __global const element *restrict residual, __global sum_element *restrict y, const GraftGemmParams p) {
  MATRIX_MEMORY
  GROUP_PART(p.m, p.n, p.k, matrix, p.batch)
  const int id = get_local_id(0), lane = id % LANES, warp = id / LANES;
  MATRIX_PLACES

  // Where the work-item's first copy of each operand comes from and goes to; the others are STEP rows further each. `k` is that
  // of the copy (along k) or of its row (across k) at the next block.
  const int rowA = id / PARTS_A, partA = id % PARTS_A * VECTOR_A, rowB = id / PARTS_B, partB = id % PARTS_B * VECTOR_B;
  const uint toA = FIRST_COPY(id, PARTS_A, PITCH_A, VECTOR_A), toB = FIRST_COPY(id, PARTS_B, PITCH_B, VECTOR_B);
  const uint strideA = (uint)p.lda * STEP_A, strideB = (uint)p.ldb * STEP_B;
  int kA = firstK + (A_ALONG_K ? partA : rowA), kB = firstK + (B_ALONG_K ? partB : rowB);
  a += (size_t)matrix * p.strideA;
  b += (size_t)matrix * p.strideB;
#if A_ALONG_K
  a += (size_t)(firstRow + rowA) * p.lda + kA;
#define INSIDE_A(i) (kA < endK && firstRow + rowA + i * STEP_A < p.m)
#define NEXT_BLOCK_A a += TILE_K;
#else
  a += (size_t)kA * p.lda + firstRow + partA;
#define INSIDE_A(i) (firstRow + partA < p.m && kA + i * STEP_A < endK)
#define NEXT_BLOCK_A a += (size_t)p.lda * TILE_K;
#endif
#if B_ALONG_K
  b += (size_t)(firstColumn + rowB) * p.ldb + kB;
#define INSIDE_B(i) (kB < endK && firstColumn + rowB + i * STEP_B < p.n)
#define NEXT_BLOCK_B b += TILE_K;
#else
  b += (size_t)kB * p.ldb + firstColumn + partB;
#define INSIDE_B(i) (firstColumn + partB < p.n && kB + i * STEP_B < endK)
#define NEXT_BLOCK_B b += (size_t)p.ldb * TILE_K;
#endif
#define FROM_A(i) a + (size_t)(i * strideA)
#define FROM_B(i) b + (size_t)(i * strideB)
#define COPY(stage)                                                                \
  COPY_BLOCK((stage), toA, COPIES_A, STEP_A, PITCH_A, VECTOR_A, FROM_A, INSIDE_A)    \
  COPY_BLOCK((stage) + STAGE_A, toB, COPIES_B, STEP_B, PITCH_B, VECTOR_B, FROM_B, INSIDE_B) \
  kA += TILE_K;                                                                    \
  kB += TILE_K;                                                                    \
  NEXT_BLOCK_A                                                                     \
  NEXT_BLOCK_B

  SUMS_ZERO
  const int blocksK = (endK - firstK + TILE_K - 1) / TILE_K;
  MATRIX_LOOP(blocksK, COPY)
  STORE_BLOCK(firstRow, p.m, firstColumn, p.n, bias, residual + (size_t)matrix * p.strideR, p.ldr,
              y + (size_t)slice * p.strideY, p.ldy, p.epilogue)
}
