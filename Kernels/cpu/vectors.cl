// What a step of L-BFGS does with the rows of a matrix of long vectors: linear combinations, and products of pairs. All of it is
// float32. Work-items are named at each kernel.
#include "cpu/math.h"

// y = factor x + sum of factors[t] row rows[t], element by element in the order of the terms: y may be one of them.
// Work-items: parts of VECTOR_PART elements.
#define VECTOR_PART 16384
KERNEL3(vector_sum, GLOBAL const float *matrix, GLOBAL const float *x, GLOBAL float *y, GraftVectorSumParams) {
  graft_long first = (graft_long)ITEM_X * VECTOR_PART, end = min(first + VECTOR_PART, p.count);
  for (graft_long i = first; i < end; i += VW) {
    int count = (int)min(end - i, (graft_long)VW);
    floatv sum = p.factor == 0.0f ? SPLAT(0.0f) : float_part(x + p.fromX + i, count) * SPLAT(p.factor);
    for (int t = 0; t < p.terms; ++t) sum = FMAV(float_part(matrix + p.rows[t] * p.stride + p.from + i, count), SPLAT(p.factors[t]), sum);
    store_float_part(sum, y + p.fromY + i, count);
  }
}

// partial[pair][part]: the pair's product over the part, or what its kind says. What is no number makes the largest magnitude
// infinite. Work-items: parts, pairs.
KERNEL2(vector_dots, GLOBAL const float *matrix, GLOBAL float *partial, GraftVectorDotParams) {
  int pair = ITEM_Y, kind = p.kinds[pair];
  graft_long from = (graft_long)ITEM_X * p.partLength, end = min(from + p.partLength, p.count);
  GLOBAL const float *a = matrix + p.first[pair] * p.stride;
  GLOBAL const float *b = matrix + p.second[pair] * p.stride;
  floatv sums[4] = {SPLAT(0.0f), SPLAT(0.0f), SPLAT(0.0f), SPLAT(0.0f)};
  graft_long i = from;
  if (kind == GRAFT_VECTOR_DOT) {
    for (; i + 4 * VW <= end; i += 4 * VW) {
      _Pragma("unroll") for (int chain = 0; chain < 4; ++chain) {
        sums[chain] = FMAV(LOADV(a + i + chain * VW), LOADV(b + i + chain * VW), sums[chain]);
      }
    }
  }
  for (; i < end; i += VW) {
    int count = (int)min(end - i, (graft_long)VW);
    floatv value = float_part(a + i, count);
    if (kind == GRAFT_VECTOR_DOT) {
      sums[0] = FMAV(value, float_part(b + i, count), sums[0]);
    } else {
      floatv magnitude = SELECTV(BITS_FLOATV((intv)(0x7F800000)), ABSV(value), value == value);
      sums[0] = kind == GRAFT_VECTOR_MAXIMUM ? SELECTV(sums[0], magnitude, magnitude > sums[0]) : sums[0] + magnitude;
    }
  }
  partial[pair * p.parts + ITEM_X] = kind == GRAFT_VECTOR_MAXIMUM ? maximum_of(sums[0]) : sum_of_chains(sums);
}
