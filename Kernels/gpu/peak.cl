// The limits of a GPU, to compare kernels with: multiply-adds that never leave the registers, and memory that is only read,
// or read and written. The host chooses the grid and counts (Sources/GraftDevice/Peak).
#include "gpu/activation.h"

#ifndef GROUP
#define GROUP 256  // work-items of a group
#endif
#ifndef CHAINS
#define CHAINS 16  // independent chains of multiply-adds a work-item
#endif

// x = x factor + term, p.repeats times in CHAINS numbers that begin at the number of their chain. y[item]: their sum.
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void peak_fma(__global float *restrict y, const GraftPeakParams p) {
  float x[CHAINS], sum = 0.0f;
#pragma unroll
  for (int c = 0; c < CHAINS; ++c) x[c] = (float)c;
  for (int r = 0; r < p.repeats; ++r) {
#pragma unroll
    for (int c = 0; c < CHAINS; ++c) x[c] = MULTIPLY_ADD(x[c], p.factor, p.term);
  }
#pragma unroll
  for (int c = 0; c < CHAINS; ++c) sum += x[c];
  y[get_global_id(0)] = sum;
}

// Where a work-item begins in its r-th walk over the array. Neighbours read neighbours, and groups change places, so that no
// compute unit finds in its own small cache what it read in the walk before.
static inline size_t first_vector(int r) {
  return (get_group_id(0) + (size_t)r) % get_num_groups(0) * GROUP + get_local_id(0);
}

// y[item] = the sum of the floats it reads: p.repeats walks over p.count floats, shared by all. p.count is a multiple of four
// times the work-items.
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void peak_read(
    __global const float4 *restrict x, __global float *restrict y, const GraftPeakParams p) {
  size_t vectors = (size_t)p.count / 4, items = get_global_size(0);
  float4 sum = (float4)(0.0f);
  for (int r = 0; r < p.repeats; ++r) {
#pragma unroll 4
    for (size_t i = first_vector(r); i < vectors; i += items) sum += x[i];
  }
  y[get_global_id(0)] = (sum.x + sum.y) + (sum.z + sum.w);
}

// a = b + factor c (McCalpin's STREAM triad): a, b and c lie one behind the other, p.count floats each.
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void peak_triad(__global float4 *x, const GraftPeakParams p) {
  size_t vectors = (size_t)p.count / 4, items = get_global_size(0);
  __global float4 *restrict a = x;
  __global const float4 *restrict b = x + vectors;
  __global const float4 *restrict c = x + 2 * vectors;
  const float factor = p.factor;
  for (int r = 0; r < p.repeats; ++r) {
#pragma unroll 4
    for (size_t i = first_vector(r); i < vectors; i += items) a[i] = c[i] * factor + b[i];
  }
}
