// 2-D convolution as an implicit GEMM, channels last: rows are output pixels (n, oh, ow), columns a group's output channels,
// and k runs over taps and the group's input channels, channels fastest:
//
//     A(pixel, k) = x[((n h + oh strideH + kh dilationH - padH) w + ow strideW + kw dilationW - padW) ldx + group C + c],
//                   zero in the padding;   k = (kh KW + kw) C + c,   C = c/groups
//     B(k, o)     = weights[(group K + k) O + o],   K = KH KW C,   O = oc/groups rounded up to a multiple of 4 (pack.cl)
//
// A is never written out: each work-item loads at one k a block, so it knows one tap and channel and steps them forward by
// carries instead of divisions; the pixels it loads for stay the same throughout. With 3 channels (a first layer) k still
// runs gaplessly over taps and channels, so no lane idles.
//
// Work-groups: one dimension,  index = ((split groups + group) blocks + block);  splits as in gemm.cl, each a dense
// [pixels, oc] in y.  VECTOR_A 4 needs C, ldx and x's start to be multiples of 4.
// After: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning" (2014), the implicit GEMM.
#include "gpu/tile.h"

// Vectors of A a work-item loads, all at the same k.
#define STEPS (TILE_K / VECTOR_A)
#define PIXELS (CARRY_A / VECTOR_A)

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void conv(
    __global const element *restrict x, __global const element *restrict weights, __global const float *restrict bias,
    __global const element *restrict residual, __global sum_element *restrict y, const GraftConvParams p) {
  TILE_MEMORY
  const int channels = p.c / p.groups, outputs = p.oc / p.groups, packed = (outputs + 3) / 4 * 4;
  const int rows = p.n * p.oh * p.ow, k = p.kh * p.kw * channels;
  GROUP_PART(rows, outputs, k, group, p.groups)
  x += group * channels;
  weights += (size_t)group * k * packed;

  // Where each pixel's window begins; a row beyond the last one begins far outside, so that all of it is padding.
  const int id = get_local_id(0);
  int image[PIXELS], top[PIXELS], left[PIXELS];
#pragma unroll
  for (int i = 0; i < PIXELS; ++i) {
    int row = firstRow + id / STEPS + i * (ITEMS / STEPS), inside = min(row, rows - 1);
    int n = inside / (p.oh * p.ow), rest = inside - n * (p.oh * p.ow), oh = rest / p.ow;
    image[i] = n * p.h * p.w;
    top[i] = row < rows ? oh * p.strideH - p.padH : INT_MIN / 2;
    left[i] = (rest - oh * p.ow) * p.strideW - p.padW;
  }
  // The tap and the channel at which it loads.
  const int ahead = id % STEPS * VECTOR_A;
  int tap = (firstK + ahead) / channels, channel = firstK + ahead - tap * channels;
  int tapH = tap / p.kw, tapW = tap - tapH * p.kw;

  TILE_SUMS
#define FETCH(k)                                                                                           \
  _Pragma("unroll") for (int i = 0; i < PIXELS; ++i) {                                                     \
    int h = top[i] + tapH * p.dilationH, w = left[i] + tapW * p.dilationW;                                 \
    bool inside = (k) + ahead < endK && (uint)h < (uint)p.h && (uint)w < (uint)p.w;                        \
    uint pixel = (uint)image[i] + (uint)h * (uint)p.w + (uint)w;                                           \
    fetch_vector(x + (pixel * (uint)p.ldx + (uint)channel), carryA + i * VECTOR_A, VECTOR_A, inside);      \
  }                                                                                                        \
  for (channel += TILE_K; channel >= channels;) {                                                          \
    channel -= channels;                                                                                   \
    if (++tapW == p.kw) { tapW = 0; ++tapH; }                                                              \
  }                                                                                                        \
  fetch_across_k(weights, packed, firstColumn, outputs, k, endK, carryB, TILE_N, VECTOR_B);
#define PUT(toA, toB)                                                                                        \
  put_along_k(carryA, toA, TILE_M, VECTOR_A);                                                                \
  put_across_k(carryB, toB, TILE_N, VECTOR_B);
  TILE_LOOP(localA, localB, firstK, endK, FETCH, PUT)

  int channelOut = group * outputs;
  store_block(sums, firstRow, rows, firstColumn, outputs, bias + channelOut, residual + channelOut, p.ldr,
              y + (size_t)split * rows * p.ldy + channelOut, p.ldy, p.epilogue);
}
