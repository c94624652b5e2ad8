// The gradient of a convolution with respect to its weights, as a product: rows are a group's output channels, columns its taps by
// input channels, channels fastest, and k runs over the output pixels (n, oh, ow):
//
//     A(k, o) = dy[k ldy + group O + o]
//     B(k, j) = x[((n h + oh strideH + tapH dilationH - padH) w + ow strideW + tapW dilationW - padW) ldx + group C + c],
//               zero in the padding;   j = (tapH KW + tapW) C + c
//
// Both operands are contiguous across k. k is cut into shares, whose sums lie in  partial[share, oc, taps, C]  and are added in order
// by weights_sum.
#define PARTIAL 1
#include "gpu/tile.h"

#ifndef DEPTHWISE
__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void conv_weights(
    __global const element *restrict x, __global const element *restrict dy, __global float *restrict partial, const GraftConvParams p) {
  TILE_MEMORY
  const int inputs = p.c / p.groups, outputs = p.oc / p.groups, columns = p.kh * p.kw * inputs, pixels = p.n * p.oh * p.ow;
  GROUP_PART(outputs, columns, pixels, group, p.groups)
  x += group * inputs;
  dy += group * outputs;

  // A work-item loads the same column of B at every k.
  const int steps = TILE_N / VECTOR_B, id = get_local_id(0);
  int column = firstColumn + id % steps * VECTOR_B, tap = column / inputs, channel = column - tap * inputs;
  int tapH = tap / p.kw, down = tapH * p.dilationH - p.padH, across = (tap - tapH * p.kw) * p.dilationW - p.padW;

  TILE_SUMS
#define FETCH(k)                                                                                                       \
  fetch_across_k(dy, p.ldy, firstRow, outputs, k, endK, carryA, TILE_M, VECTOR_A);                                     \
  _Pragma("unroll") for (int i = 0; i < TILE_K * TILE_N / VECTOR_B / ITEMS; ++i) {                                     \
    uint pixel = (uint)(k) + (uint)(id + i * ITEMS) / (uint)steps, row = pixel / (uint)p.ow, n = row / (uint)p.oh;     \
    int h = (int)(row - n * p.oh) * p.strideH + down, w = (int)(pixel - row * p.ow) * p.strideW + across;              \
    bool inside = (int)pixel < endK && column < columns && (uint)h < (uint)p.h && (uint)w < (uint)p.w;                 \
    uint at = (n * (uint)p.h + (uint)h) * (uint)p.w + (uint)w;                                                         \
    fetch_vector(x + (at * (uint)p.ldx + (uint)channel), carryB + i * VECTOR_B, VECTOR_B, inside);                     \
  }
#define PUT(toA, toB)                                                                                                  \
  put_across_k(carryA, toA, TILE_M, VECTOR_A);                                                                         \
  put_across_k(carryB, toB, TILE_N, VECTOR_B);
  TILE_LOOP(localA, localB, firstK, endK, FETCH, PUT)

  store_block(sums, firstRow, outputs, firstColumn, columns, partial, dy, 0, partial + ((size_t)split * p.oc + group * outputs) * columns, columns,
              p.epilogue);
}
#endif

// One weight's share by one work-item: depthwise convolutions, and devices too small for a tile.
// Work-items: index = ((share taps + tap) C + c) oc + o; channels that are groups of their own have C = 1.
__kernel void conv_weights_direct(
    __global const element *restrict x, __global const element *restrict dy, __global float *restrict partial, const GraftConvParams p) {
  int inputs = p.c / p.groups, outputs = p.oc / p.groups, taps = p.kh * p.kw;
  size_t index = get_global_id(0), rest = index / p.oc;
  int o = (int)(index - rest * p.oc), c = (int)(rest % inputs), tap = (int)(rest / inputs % taps), share = (int)(rest / inputs / taps);
  int first = share * p.rowsPerItem, end = min(first + p.rowsPerItem, p.n * p.oh);
  if (first >= end) return;
  int a = tap / p.kw, b = tap - a * p.kw, channel = o / outputs * inputs + c;
  float sum = 0.0f;
  for (int row = first; row < end; ++row) {
    int n = row / p.oh, h = (row - n * p.oh) * p.strideH + a * p.dilationH - p.padH;
    if (h < 0 || h >= p.h) continue;
    for (int ow = 0; ow < p.ow; ++ow) {
      int w = ow * p.strideW + b * p.dilationW - p.padW;
      if (w < 0 || w >= p.w) continue;
      sum = MULTIPLY_ADD(widen(x[(((size_t)n * p.h + h) * p.w + w) * p.ldx + channel]), widen(dy[((size_t)row * p.ow + ow) * p.ldy + o]), sum);
    }
  }
  partial[(((size_t)share * p.oc + o) * taps + tap) * inputs + c] = sum;
}

// y[o, c, tap] = sum over shares s of partial[s strideBatch + o strideO + tap strideTap + c strideC]. Work-items: weights.
__kernel void weights_sum(__global const float *restrict partial, __global element *restrict y, const GraftPackParams p) {
  size_t index = get_global_id(0), count = (size_t)p.oc * p.taps * p.c;
  if (index >= count) return;
  size_t o = index / ((size_t)p.taps * p.c), rest = index - o * p.taps * p.c;
  int c = (int)(rest / p.taps), tap = (int)(rest - (size_t)c * p.taps);
  partial += o * p.strideO + (size_t)tap * p.strideTap + (size_t)c * p.strideC;
  float sum = 0.0f;
#pragma unroll 8
  for (int s = 0; s < p.batch; ++s) sum += partial[s * (size_t)p.strideBatch];
  y[index] = narrow(sum);
}
