// What a step of L-BFGS does with the rows of a matrix of long vectors: linear combinations, and products of pairs. All of it is
// float32. Work-items are named at each kernel.
#include "gpu/rows.h"

// y = factor x + sum of factors[t] row rows[t], element by element in the order of the terms: y may be one of them.
// Work-items: elements.
__kernel void vector_sum(__global const float *matrix, __global const float *x, __global float *y, const GraftVectorSumParams p) {
  size_t i = get_global_id(0);
  if (i >= (size_t)p.count) return;
  float sum = p.factor == 0.0f ? 0.0f : x[p.fromX + i] * p.factor;
  // Unrolled, since a compiler copies an argument's array to private memory before it takes an element that it does not know.
#pragma unroll
  for (int t = 0; t < GRAFT_VECTOR_TERMS; ++t) {
    if (t < p.terms) sum = MULTIPLY_ADD(matrix[p.rows[t] * p.stride + p.from + i], p.factors[t], sum);
  }
  y[p.fromY + i] = sum;
}

// partial[pair][part]: the pair's product over the part, or what its kind says. What is no number makes the largest magnitude
// infinite. Work-groups: parts of the first pair, of the second and so on.
__kernel ROWS_GROUP void vector_dots(__global const float *restrict matrix, __global float *restrict partial, const GraftVectorDotParams p) {
  __local float scratch[ROW_SCRATCH];
  int pair = get_group_id(0) / p.parts, part = get_group_id(0) % p.parts, kind = 0, first = 0, second = 0;
#pragma unroll
  for (int t = 0; t < GRAFT_VECTOR_TERMS; ++t) {
    if (t == pair) kind = p.kinds[t], first = p.first[t], second = p.second[t];
  }
  size_t from = (size_t)part * p.partLength, end = min(from + (size_t)p.partLength, (size_t)p.count);
  __global const float *a = matrix + (size_t)first * p.stride;
  __global const float *b = matrix + (size_t)second * p.stride;
  float sum = 0.0f;
  for (size_t i = from + get_local_id(0); i < end; i += ROW_ITEMS) {
    float value = a[i];
    if (kind == GRAFT_VECTOR_DOT) {
      sum = MULTIPLY_ADD(value, b[i], sum);
    } else {
      float magnitude = value == value ? fabs(value) : INFINITY;
      sum = kind == GRAFT_VECTOR_MAXIMUM ? fmax(sum, magnitude) : sum + magnitude;
    }
  }
  sum = row_total(sum, scratch, kind == GRAFT_VECTOR_MAXIMUM);
  if (get_local_id(0) == 0) partial[(size_t)pair * p.parts + part] = sum;
}
