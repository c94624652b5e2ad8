// The second pass of a product whose k was split: adds the shares in order and applies the epilogue.
//
//     y[b strideY + i ldy + j] = epilogue(sum over s < p.k of partial[((s batch + b) m + i) n + j])
//
// Work-items: VECTOR neighbouring columns each, over batch, m and n.
#include "gpu/activation.h"

#ifndef VECTOR
#define VECTOR 1  // 4 or 8 needs n, ldy, ldr and every start to be multiples of it
#endif

__kernel void split_sum(
    __global const float *partial, __global const float *bias, __global const element *residual, __global element *y,
    const GraftGemmParams p) {
  const Activation activation = activation_of(p.epilogue);
  size_t count = (size_t)p.batch * p.m * p.n, at = get_global_id(0) * VECTOR;
  if (at >= count) return;
  uint row = (uint)(at / p.n), column = (uint)(at - (size_t)row * p.n), matrix = row / p.m;
  row -= matrix * p.m;
  float sum[VECTOR], next[VECTOR];
  load_floats(partial + at, sum, VECTOR);
  for (int s = 1; s < p.k; ++s) {
    load_floats(partial + s * count + at, next, VECTOR);
    for (int e = 0; e < VECTOR; ++e) sum[e] += next[e];
  }
  if (p.epilogue.hasBias) {
    load_floats(bias + column, next, VECTOR);
    for (int e = 0; e < VECTOR; ++e) sum[e] += next[e];
  }
  if (p.epilogue.hasResidual) {
    load_elements(residual + (size_t)matrix * p.strideR + (size_t)row * p.ldr + column, next, VECTOR);
    for (int e = 0; e < VECTOR; ++e) sum[e] += next[e];
  }
#pragma unroll
  for (int e = 0; e < VECTOR; ++e) sum[e] = activate(sum[e], activation);
  store_elements(sum, y + (size_t)matrix * p.strideY + (size_t)row * p.ldy + column, VECTOR);
}
