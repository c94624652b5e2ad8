// Convolution weights from any strided source into the GPU family's order: columns of a matrix [k, outputs], so that a block's
// rows are read as whole vectors, with zeros up to a multiple of 4 outputs.
//
//     source element (group g, output o, input c, tap t) at  g strideGroup + o strideO + c strideC + t strideTap
//     packed element at  (g K + t C + c) O + o,   K = taps C,   O = oc rounded up to a multiple of 4
//
// Depthwise weights are the case of one group and one input channel: [taps, O]. Work-items: packed elements.
#include "gpu/element.h"

// Sources are float32, whatever what is packed is (depthwise weights: a program of float32).
__kernel void pack(__global const float *source, __global element *packed, const GraftPackParams p) {
  size_t outputs = ((size_t)p.oc + 3) / 4 * 4, rows = (size_t)p.taps * p.c, index = get_global_id(0);
  if (index >= p.groups * rows * outputs) return;
  size_t line = index / outputs, o = index - line * outputs, group = line / rows, row = line - group * rows;
  size_t tap = row / p.c, c = row - tap * p.c;
  packed[index] = o < (size_t)p.oc ? narrow(source[group * p.strideGroup + o * p.strideO + c * p.strideC + tap * p.strideTap]) : 0;
}

#ifndef PART
#define PART 8  // of `pack_rows` and `pad_rows`: 1, 2, 4 or 8
#endif

// The same for matrix units (matrix_conv.cl): an output channel's row along k,
//
//     packed element at  (g O + o) K + t C + c,   K = taps C,   C = c rounded up to a multiple of PART, with zeros
__kernel void pack_rows(__global const float *source, __global element *packed, const GraftPackParams p) {
  size_t channels = ((size_t)p.c + PART - 1) / PART * PART, length = p.taps * channels, index = get_global_id(0);
  if (index >= p.groups * p.oc * length) return;
  size_t row = index / length, at = index - row * length, group = row / p.oc, o = row - group * p.oc, tap = at / channels, c = at - tap * channels;
  packed[index] = c < (size_t)p.c ? narrow(source[group * p.strideGroup + o * p.strideO + c * p.strideC + tap * p.strideTap]) : 0;
}

// Rows of p.channels elements, ldx apart, into rows of ldy with zeros after them: channels for matrix units that are no multiple
// of what a copy takes. PART divides ldy. Work-items: PART elements of y.
__kernel void pad_rows(__global const element *x, __global element *y, const GraftUnaryParams p) {
  uint parts = (uint)p.ldy / PART;
  size_t index = get_global_id(0);
  if (index >= (size_t)p.rows * parts) return;
  size_t row = index / parts;
  int c = (int)(index - row * parts) * PART;
  element part[PART];
  for (int e = 0; e < PART; ++e) part[e] = c + e < p.channels ? x[row * p.ldx + c + e] : 0;
#if GRAFT_STORAGE == GRAFT_FLOAT32
#if PART == 4
  *((__global float4 *)y + index) = (float4)(part[0], part[1], part[2], part[3]);
#elif PART == 2
  *((__global float2 *)y + index) = (float2)(part[0], part[1]);
#else
#pragma unroll
  for (int e = 0; e < PART; ++e) y[index * PART + e] = part[e];
#endif
#elif PART == 8
  *((__global ushort8 *)y + index) = (ushort8)(part[0], part[1], part[2], part[3], part[4], part[5], part[6], part[7]);
#elif PART == 4
  *((__global ushort4 *)y + index) = (ushort4)(part[0], part[1], part[2], part[3]);
#elif PART == 2
  *((__global ushort2 *)y + index) = (ushort2)(part[0], part[1]);
#else
  y[index] = part[0];
#endif
}
