// 2-D convolution on matrix units, channels last, as an implicit product (conv.cl has the formula): rows are output pixels,
// columns a group's output channels, and k runs over taps and the group's input channels, channels fastest.
//
//     weights [groups, oc/groups, K]: an output channel's row along k (pack.cl, `pack_rows`)
//
// A copy takes VECTOR_A channels of one tap, so channels a group, ldx and x's start are multiples of it; the padding around the
// image is copied as zeros, and A is never written out. A work-item copies for the same few pixels, at the same distance in k,
// throughout, so it steps tap and channel forward by carries.
#include "gpu/matrix_tile.h"

#if !A_ALONG_K || !B_ALONG_K
#error "both operands of a convolution lie along k"
#endif

MATRIX_KERNEL void matrix_conv(
    __global const element *restrict x, __global const element *restrict weights, __global const float *restrict bias,
    __global const element *restrict residual, __global sum_element *restrict y, const GraftConvParams p) {
  MATRIX_MEMORY
  const int channels = p.c / p.groups, outputs = p.oc / p.groups;
  const int rows = p.n * p.oh * p.ow, k = p.kh * p.kw * channels;
  GROUP_PART(rows, outputs, k, group, p.groups)
  const int id = get_local_id(0), lane = id % LANES, warp = id / LANES;
  MATRIX_PLACES

  const int rowA = id / PARTS_A, partA = id % PARTS_A * VECTOR_A, rowB = id / PARTS_B, partB = id % PARTS_B * VECTOR_B;
  const uint toA = FIRST_COPY(id, PARTS_A, PITCH_A, VECTOR_A), toB = FIRST_COPY(id, PARTS_B, PITCH_B, VECTOR_B);

  // Where each pixel's window begins: its row and column in the image, 16 bits each (what is larger has no plan with this
  // kernel), and the element's number modulo 2^32 (before the image it is not read). A row beyond the last one begins far
  // outside, so that all of it is padding.
  int corner[COPIES_A];
  uint start[COPIES_A];
  UNROLLED
  for (int i = 0; i < COPIES_A; ++i) {
    int row = firstRow + rowA + i * STEP_A, inside = min(row, rows - 1);
    int n = inside / (p.oh * p.ow), rest = inside - n * (p.oh * p.ow), oh = rest / p.ow;
    int h = oh * p.strideH - p.padH, w = (rest - oh * p.ow) * p.strideW - p.padW;
    corner[i] = (int)((uint)(row < rows ? h : SHRT_MIN) << 16 | ((uint)w & 0xFFFF));
    start[i] = (uint)((n * p.h + h) * p.w + w) * (uint)p.ldx + (uint)(group * channels);
  }
  // The tap and the channel of its next copy, and how far that is from the window's first element.
  int kA = firstK + partA, tap = kA / channels, channel = kA - tap * channels;
  int tapH = tap / p.kw, tapW = tap - tapH * p.kw;

  weights += (size_t)(group * outputs + firstColumn + rowB) * k + firstK + partB;
  const uint strideB = (uint)k * STEP_B;
  int kB = firstK + partB;
#define INSIDE_A(i) (kA < endK && (uint)((corner[i] >> 16) + downH) < (uint)p.h && (uint)((short)corner[i] + rightW) < (uint)p.w)
#define FROM_A(i) x + (size_t)(start[i] + ahead)
#define INSIDE_B(i) (kB < endK && firstColumn + rowB + i * STEP_B < outputs)
#define FROM_B(i) weights + (size_t)(i * strideB)
#define COPY(stage)                                                                                   \
  int downH = tapH * p.dilationH, rightW = tapW * p.dilationW;                                        \
  uint ahead = (uint)(downH * p.w + rightW) * (uint)p.ldx + (uint)channel;                            \
  COPY_BLOCK((stage), toA, COPIES_A, STEP_A, PITCH_A, VECTOR_A, FROM_A, INSIDE_A)                       \
  COPY_BLOCK((stage) + STAGE_A, toB, COPIES_B, STEP_B, PITCH_B, VECTOR_B, FROM_B, INSIDE_B)             \
  for (channel += TILE_K; channel >= channels;) {                                                     \
    channel -= channels;                                                                              \
    if (++tapW == p.kw) { tapW = 0; ++tapH; }                                                         \
  }                                                                                                   \
  kA += TILE_K;                                                                                       \
  kB += TILE_K;                                                                                       \
  weights += TILE_K;

  SUMS_ZERO
  const int blocksK = (endK - firstK + TILE_K - 1) / TILE_K;
  MATRIX_LOOP(blocksK, COPY)
  int channelOut = group * outputs;
  STORE_BLOCK(firstRow, rows, firstColumn, outputs, bias + channelOut, residual + channelOut, p.ldr,
              y + (size_t)split * rows * p.ldy + channelOut, p.ldy, p.epilogue)
}
