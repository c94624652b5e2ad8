// Depthwise convolution (one input channel an output channel), channels last.
//
// A work-item computes PIXELS neighbouring output columns of VECTOR neighbouring channels; neighbouring work-items have
// neighbouring channels, so every load of a group is one run of memory. With the kernel's width and stride known
// (KERNEL_W > 0, dilation 1) it loads each input of a row once, SPAN = (PIXELS - 1) STRIDE_W + KERNEL_W of them, for all
// PIXELS KERNEL_W products; without (KERNEL_W 0) it loads them as they come.
//
// Weights [taps, c rounded up to a multiple of 4] (pack.cl), float32 in every format. Work-items: channel vectors, then strips of PIXELS, then rows
// (n, oh).
#include "gpu/activation.h"

#ifndef VECTOR
#define VECTOR 1  // channels a work-item: 4 or 8 needs c, ldx, ldy, ldr and every start to be multiples of it
#endif
#ifndef PIXELS
#define PIXELS 4  // output columns a work-item
#endif
#ifndef KERNEL_W
#define KERNEL_W 0  // the kernel's width, or 0: read p.kw
#endif
#ifndef STRIDE_W
#define STRIDE_W 1  // with KERNEL_W: its stride
#endif
#define SPAN ((PIXELS - 1) * STRIDE_W + KERNEL_W)

static inline void fetch(__global const element *line, int column, int width, int ldx, float *to) {
  if (column >= 0 && column < width) {
    load_elements(line + (size_t)column * ldx, to, VECTOR);
  } else {
    for (int e = 0; e < VECTOR; ++e) to[e] = 0.0f;
  }
}

__kernel void depthwise(
    __global const element *restrict x, __global const float *restrict weights, __global const float *restrict bias,
    __global const element *restrict residual, __global element *restrict y, const GraftConvParams p) {
  uint vectors = (uint)p.c / VECTOR, strips = ((uint)p.ow + PIXELS - 1) / PIXELS;
  size_t index = get_global_id(0);
  if (index >= (size_t)p.n * p.oh * strips * vectors) return;
  uint rest = (uint)(index / vectors), c = (uint)(index - (size_t)rest * vectors) * VECTOR;
  uint row = rest / strips, n = row / p.oh;
  int firstColumn = (int)(rest - row * strips) * PIXELS;
  int top = (int)(row - n * p.oh) * p.strideH - p.padH, left = firstColumn * p.strideW - p.padW;
  uint packed = ((uint)p.c + 3) / 4 * 4;
  x += (size_t)n * p.h * p.w * p.ldx + c;
  weights += c;

  float sums[PIXELS][VECTOR];
#pragma unroll
  for (int q = 0; q < PIXELS; ++q)
    for (int e = 0; e < VECTOR; ++e) sums[q][e] = 0.0f;
  for (int i = 0; i < p.kh; ++i) {
    int h = top + i * p.dilationH;
    if (h < 0 || h >= p.h) continue;
    __global const element *line = x + (size_t)h * p.w * p.ldx;
    __global const float *tap = weights + (size_t)i * p.kw * packed;
#if KERNEL_W > 0
    float inputs[SPAN][VECTOR];
#pragma unroll
    for (int s = 0; s < SPAN; ++s) fetch(line, left + s, p.w, p.ldx, inputs[s]);
#pragma unroll
    for (int j = 0; j < KERNEL_W; ++j) {
      float weight[VECTOR];
      load_floats(tap + j * packed, weight, VECTOR);
#pragma unroll
      for (int q = 0; q < PIXELS; ++q)
        for (int e = 0; e < VECTOR; ++e) sums[q][e] = MULTIPLY_ADD(inputs[q * STRIDE_W + j][e], weight[e], sums[q][e]);
    }
#else
    for (int j = 0; j < p.kw; ++j) {
      float weight[VECTOR], input[VECTOR];
      load_floats(tap + j * packed, weight, VECTOR);
#pragma unroll
      for (int q = 0; q < PIXELS; ++q) {
        fetch(line, left + q * p.strideW + j * p.dilationW, p.w, p.ldx, input);
        for (int e = 0; e < VECTOR; ++e) sums[q][e] = MULTIPLY_ADD(input[e], weight[e], sums[q][e]);
      }
    }
#endif
  }

  const Activation activation = activation_of(p.epilogue);
  float added[VECTOR], old[VECTOR];
  for (int e = 0; e < VECTOR; ++e) added[e] = old[e] = 0.0f;
  if (p.epilogue.hasBias) load_floats(bias + c, added, VECTOR);
#pragma unroll
  for (int q = 0; q < PIXELS; ++q) {
    if (firstColumn + q < p.ow) {
      size_t at = (size_t)row * p.ow + firstColumn + q;
      if (p.epilogue.hasResidual) load_elements(residual + at * p.ldr + c, old, VECTOR);
#pragma unroll
      for (int e = 0; e < VECTOR; ++e) sums[q][e] = activate(sums[q][e] + added[e] + old[e], activation);
      store_elements(sums[q], y + at * p.ldy + c, VECTOR);
    }
  }
}
