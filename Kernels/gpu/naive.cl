// The definitions of product and convolution, one result a work-item, nothing shared and nothing clever: what the tiled
// kernels are compared with, and what runs where a device's work-groups are too small for them.
//
// Operands and layouts as in gemm.cl and conv.cl. Work-items: results, innermost dimension first.
#include "gpu/activation.h"

#ifndef TRANSPOSE_A
#define TRANSPOSE_A 0
#endif
#ifndef TRANSPOSE_B
#define TRANSPOSE_B 0
#endif

__kernel void gemm_naive(
    __global const element *a, __global const element *b, __global const float *bias, __global const element *residual,
    __global element *y, const GraftGemmParams p) {
  size_t index = get_global_id(0);
  if (index >= (size_t)p.batch * p.m * p.n) return;
  uint line = (uint)(index / p.n), column = (uint)(index - (size_t)line * p.n), matrix = line / p.m, row = line - matrix * p.m;
  a += (size_t)matrix * p.strideA + (size_t)row * (TRANSPOSE_A ? 1 : p.lda);
  b += (size_t)matrix * p.strideB + (size_t)column * (TRANSPOSE_B ? p.ldb : 1);
  float sum = 0.0f;
  for (int k = 0; k < p.k; ++k)
    sum = MULTIPLY_ADD(widen(a[(size_t)k * (TRANSPOSE_A ? p.lda : 1)]), widen(b[(size_t)k * (TRANSPOSE_B ? 1 : p.ldb)]), sum);
  if (p.epilogue.hasBias) sum += bias[column];
  if (p.epilogue.hasResidual) sum += widen(residual[(size_t)matrix * p.strideR + (size_t)row * p.ldr + column]);
  y[(size_t)matrix * p.strideY + (size_t)row * p.ldy + column] = narrow(activate(sum, activation_of(p.epilogue)));
}

__kernel void conv_naive(
    __global const element *x, __global const element *weights, __global const float *bias, __global const element *residual,
    __global element *y, const GraftConvParams p) {
  size_t index = get_global_id(0);
  if (index >= (size_t)p.n * p.oh * p.ow * p.oc) return;
  uint row = (uint)(index / p.oc), o = (uint)(index - (size_t)row * p.oc);
  int channels = p.c / p.groups, outputs = p.oc / p.groups, packed = (outputs + 3) / 4 * 4, group = o / outputs;
  int n = row / (p.oh * p.ow), rest = row - n * (p.oh * p.ow), oh = rest / p.ow, ow = rest - oh * p.ow;
  __global const element *w = weights + (size_t)group * p.kh * p.kw * channels * packed + (o - group * outputs);
  float sum = 0.0f;
  for (int i = 0; i < p.kh; ++i)
    for (int j = 0; j < p.kw; ++j) {
      int h = oh * p.strideH - p.padH + i * p.dilationH, v = ow * p.strideW - p.padW + j * p.dilationW;
      if (h < 0 || h >= p.h || v < 0 || v >= p.w) continue;
      __global const element *from = x + (((size_t)n * p.h + h) * p.w + v) * p.ldx + group * channels;
      for (int c = 0; c < channels; ++c) sum = MULTIPLY_ADD(widen(from[c]), widen(w[(size_t)((i * p.kw + j) * channels + c) * packed]), sum);
    }
  if (p.epilogue.hasBias) sum += bias[o];
  if (p.epilogue.hasResidual) sum += widen(residual[(size_t)row * p.ldr + o]);
  y[(size_t)row * p.ldy + o] = narrow(activate(sum, activation_of(p.epilogue)));
}
