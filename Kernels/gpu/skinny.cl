// Matrix product with few rows or few columns, where the time goes into reading the larger operand once:
//
//     y[b](w, r) = epilogue(sum over k of wide[b](w, k) narrow[b](r, k)),   r < NARROW,   up to 8
//
// ROWS_WIDE 0: wide = op(b), its columns w are y's columns, and the few r are y's rows. ROWS_WIDE 1: wide = op(a), w are
// y's rows. An operand along k has element (w, k) at w ld + k, one across k at k ld + w (transposes are thus covered).
//
//     a group:   LANES_K × LANES_W work-items, each NARROW sums over every LANES_K-th k (VECTOR at a time) of one w
//                wide along k: 32 × 8, neighbours at neighbouring k;  across k: 8 × 32, neighbours at neighbouring w
//     then       local memory [NARROW, LANES_K, LANES_W], added over LANES_K in order, one result a work-item (NARROW ≤ 8 ≤ LANES_K)
//
// Work-groups: one dimension,  index = ((split batch + b) blocks of w + …);  splits of k as in gemm.cl.
#include "gpu/activation.h"

#ifndef NARROW
#define NARROW 1  // vectors of the narrow operand a work-item keeps sums of
#endif
#ifndef ROWS_WIDE
#define ROWS_WIDE 0
#endif
#ifndef WIDE_ALONG_K
#define WIDE_ALONG_K 1
#endif
#ifndef NARROW_ALONG_K
#define NARROW_ALONG_K 1
#endif
#ifndef VECTOR
#define VECTOR 1  // 4 (8 in the shorter formats) needs both operands along k, with k, lda, ldb and the strides of the batch multiples of it
#endif

#ifndef GROUP
#define GROUP 256  // work-items of a group, a multiple of 32
#endif
#if WIDE_ALONG_K
#define LANES_K 32
#else
#define LANES_K 8
#endif
#define LANES_W (GROUP / LANES_K)

__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void gemm_skinny(
    __global const element *restrict a, __global const element *restrict b, __global const float *restrict bias,
    __global const element *restrict residual, __global sum_element *restrict y, const GraftGemmParams p) {
  __local float shares[NARROW * GROUP];
  const int wideCount = ROWS_WIDE ? p.m : p.n, narrowCount = ROWS_WIDE ? p.n : p.m;
  const int wideLd = ROWS_WIDE ? p.lda : p.ldb, narrowLd = ROWS_WIDE ? p.ldb : p.lda;
  uint blocks = ((uint)wideCount + LANES_W - 1) / LANES_W, index = get_group_id(0), slice = index / blocks;
  uint split = slice / (uint)p.batch, matrix = slice - split * p.batch, splits = (uint)get_num_groups(0) / (blocks * p.batch);
  a += (size_t)matrix * p.strideA;
  b += (size_t)matrix * p.strideB;
  __global const element *wide = ROWS_WIDE ? a : b, *few = ROWS_WIDE ? b : a;

  const int id = get_local_id(0);
  const int laneK = WIDE_ALONG_K ? id % LANES_K : id / LANES_W, laneW = WIDE_ALONG_K ? id / LANES_K : id % LANES_W;
  const int firstW = (int)(index - slice * blocks) * LANES_W, w = firstW + laneW;
  uint steps = ((uint)p.k + LANES_K * VECTOR - 1) / (LANES_K * VECTOR), share = (steps + splits - 1) / splits;
  int k = (int)min((uint)p.k, split * share * LANES_K * VECTOR), endK = (int)min((uint)p.k, (split + 1) * share * LANES_K * VECTOR);
  float sums[NARROW];
#pragma unroll
  for (int r = 0; r < NARROW; ++r) sums[r] = 0.0f;
  if (w < wideCount) {
    for (k += laneK * VECTOR; k < endK; k += LANES_K * VECTOR) {
      float left[VECTOR], right[VECTOR];
      load_elements(wide + (WIDE_ALONG_K ? (size_t)w * wideLd + k : (size_t)k * wideLd + w), left, VECTOR);
#pragma unroll
      for (int r = 0; r < NARROW; ++r) {
        if (r < narrowCount) {
          load_elements(few + (NARROW_ALONG_K ? (size_t)r * narrowLd + k : (size_t)k * narrowLd + r), right, VECTOR);
          for (int e = 0; e < VECTOR; ++e) sums[r] = MULTIPLY_ADD(left[e], right[e], sums[r]);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < NARROW; ++r) shares[(r * LANES_K + laneK) * LANES_W + laneW] = sums[r];
  barrier(CLK_LOCAL_MEM_FENCE);

  const int r = id / LANES_W, last = firstW + id % LANES_W;
  if (r >= NARROW || r >= narrowCount || last >= wideCount) return;
  float sum = 0.0f;
  for (int lane = 0; lane < LANES_K; ++lane) sum += shares[(r * LANES_K + lane) * LANES_W + id % LANES_W];
  int row = ROWS_WIDE ? last : r, column = ROWS_WIDE ? r : last;
  if (p.epilogue.hasBias) sum += bias[column];
  if (p.epilogue.hasResidual) sum += widen(residual[(size_t)matrix * p.strideR + (size_t)row * p.ldr + column]);
  sum = activate(sum, activation_of(p.epilogue));
  store_sums(&sum, y + ((size_t)slice * p.strideY + (size_t)row * p.ldy + column), 1);
}
