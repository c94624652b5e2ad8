// Elementwise operations. A work-item computes VECTOR neighbours of the innermost dimension; neighbours in memory are
// neighbours in the grid. Work-items: one dimension.
#include "gpu/activation.h"

#ifndef VECTOR
#define VECTOR 1  // 4 or 8 needs the innermost extent, the other strides and every start to be multiples of it
#endif
#ifndef RANK
#define RANK 1  // of `binary`: known, so that the extents are no array that is indexed at run time
#endif

// y[row, c] = activation(x[row, c] scale[c] + shift[c]).
__kernel void unary(
    __global const element *restrict x, __global const float *restrict scale, __global const float *restrict shift,
    __global element *restrict y, const GraftUnaryParams p) {
  uint vectors = (uint)p.channels / VECTOR;
  size_t index = get_global_id(0);
  if (index >= (size_t)p.rows * vectors) return;
  uint row = (uint)index / vectors, c = ((uint)index - row * vectors) * VECTOR;
  const Activation activation = activation_of(p.epilogue);
  float value[VECTOR], vector[VECTOR];
  load_elements(x + (size_t)row * p.ldx + c, value, VECTOR);
  if (p.hasScale) {
    load_floats(scale + c, vector, VECTOR);
    for (int e = 0; e < VECTOR; ++e) value[e] *= vector[e];
  }
  if (p.hasShift) {
    load_floats(shift + c, vector, VECTOR);
    for (int e = 0; e < VECTOR; ++e) value[e] += vector[e];
  }
#pragma unroll
  for (int e = 0; e < VECTOR; ++e) value[e] = activate(value[e], activation);
  store_elements(value, y + (size_t)row * p.ldy + c, VECTOR);
}

static inline float combine(float a, float b, int operation) {
  switch (operation) {
  case GRAFT_BINARY_ADD: return a + b;
  case GRAFT_BINARY_SUBTRACT: return a - b;
  case GRAFT_BINARY_MULTIPLY: return a * b;
  case GRAFT_BINARY_DIVIDE: return a / b;
  case GRAFT_BINARY_MAXIMUM: return a > b || a != a ? a : b;
  case GRAFT_BINARY_MINIMUM: return a < b || a != a ? a : b;
  case GRAFT_BINARY_POWER: return pow(a, b);
  case GRAFT_BINARY_PRELU: return a < 0.0f ? a * b : a;
  case GRAFT_BINARY_EQUAL: return a == b ? 1.0f : 0.0f;
  case GRAFT_BINARY_GREATER: return a > b ? 1.0f : 0.0f;
  case GRAFT_BINARY_MASKED: return b != 0.0f ? a : 0.0f;
  default: return a;
  }
}

static inline void load_operand(__global const element *from, int step, float *to) {
  if (step == 0) {
    for (int e = 0; e < VECTOR; ++e) to[e] = widen(*from);
  } else {
    load_elements(from, to, VECTOR);
  }
}

// y[i] = activation(op(a[i], b[i])) with broadcasting: strides of 0 repeat. With VECTOR 4 or 8 the innermost strides are 0 or 1,
// and y's is 1.
__kernel void binary(__global const element *a, __global const element *b, __global element *y, const GraftBinaryParams p) {
  const int last = RANK - 1;
  uint vectors = (uint)p.dims[last] / VECTOR, rest = (uint)get_global_id(0), count = vectors;
#pragma unroll
  for (int d = 0; d < last; ++d) count *= (uint)p.dims[d];
  if (rest >= count) return;
  size_t fromA = 0, fromB = 0, to = 0;
  uint above = rest / vectors, inner = (rest - above * vectors) * VECTOR;
#pragma unroll
  for (int d = last - 1; d >= 0; --d) {
    uint next = above / (uint)p.dims[d], at = above - next * (uint)p.dims[d];
    above = next;
    fromA += (size_t)at * p.stridesA[d];
    fromB += (size_t)at * p.stridesB[d];
    to += (size_t)at * p.stridesY[d];
  }
  const Activation activation = activation_of(p.epilogue);
  float left[VECTOR], right[VECTOR];
  load_operand(a + fromA + (size_t)inner * p.stridesA[last], p.stridesA[last], left);
  load_operand(b + fromB + (size_t)inner * p.stridesB[last], p.stridesB[last], right);
#pragma unroll
  for (int e = 0; e < VECTOR; ++e) left[e] = activate(combine(left[e], right[e], p.operation), activation);
  store_elements(left, y + to + (size_t)inner * p.stridesY[last], VECTOR);
}

// Bytes into elements: y[pixel, c] = x[pixel, c] scale[c] + shift[c]. Work-items: VECTOR elements; 4 or 8 needs dense rows (ldy
// = channels), and the last work-item may have fewer.
__kernel void normalize_image(
    __global const uchar *restrict x, __global const float *restrict scale, __global const float *restrict shift,
    __global element *restrict y, const GraftNormalizeParams p) {
  size_t count = (size_t)p.pixels * p.channels, at = get_global_id(0) * VECTOR;
  if (at >= count) return;
  uint pixel = (uint)(at / p.channels), c = (uint)(at - (size_t)pixel * p.channels);
#if VECTOR >= 4
  if (at + VECTOR <= count) {
    float value[VECTOR];
#pragma unroll
    for (int e = 0; e < VECTOR; e += 4) {
      uchar4 bytes = *(__global const uchar4 *)(x + at + e);
      value[e] = bytes.x, value[e + 1] = bytes.y, value[e + 2] = bytes.z, value[e + 3] = bytes.w;
    }
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) {
      value[e] = MULTIPLY_ADD(value[e], scale[c], shift[c]);
      c = c + 1 == (uint)p.channels ? 0 : c + 1;
    }
    store_elements(value, y + at, VECTOR);
    return;
  }
#endif
  for (; at < count && at < (get_global_id(0) + 1) * VECTOR; ++at) {
    y[(size_t)pixel * p.ldy + c] = narrow(MULTIPLY_ADD((float)x[at], scale[c], shift[c]));
    if (++c == (uint)p.channels) c = 0, ++pixel;
  }
}
