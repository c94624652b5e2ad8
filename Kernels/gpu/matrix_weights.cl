// The gradient of a convolution with respect to its weights on matrix units: the product of conv_weights.cl, whose k runs over the
// output pixels, in the formats of the unit, products by it, sums in float32. Shares, partial sums and work-groups as there.
//
// Both operands lie across k. A copy takes VECTOR_B channels of one tap at one pixel, so channels a group, ldx and x's start are
// multiples of it, and outputs a group, ldy and dy's start of VECTOR_A; what a window has in the padding is copied as zeros. A
// work-item copies the same tap and channels throughout, at pixels STEP_B apart: it steps its place in the image forward by
// carries, since a division a copy would take longer than what is multiplied meanwhile.
#define PARTIAL 1
#ifndef A_ALONG_K
#define A_ALONG_K 0
#endif
#ifndef B_ALONG_K
#define B_ALONG_K 0
#endif
#include "gpu/matrix_tile.h"

#if A_ALONG_K || B_ALONG_K
#error "both operands of a gradient with respect to weights lie across k"
#endif

MATRIX_KERNEL void matrix_weights(
    __global const element *restrict x, __global const element *restrict dy, __global float *restrict partial, const GraftConvParams p) {
  MATRIX_MEMORY
  const int inputs = p.c / p.groups, outputs = p.oc / p.groups, columns = p.kh * p.kw * inputs, pixels = p.n * p.oh * p.ow;
  GROUP_PART(outputs, columns, pixels, group, p.groups)
  const int id = get_local_id(0), lane = id % LANES, warp = id / LANES;
  MATRIX_PLACES

  // Copies as in matrix_gemm.cl; those of rows and columns beyond the last lie beyond the last pixel.
  const int rowA = id / PARTS_A, partA = id % PARTS_A * VECTOR_A, rowB = id / PARTS_B, partB = id % PARTS_B * VECTOR_B;
  const uint toA = FIRST_COPY(id, PARTS_A, PITCH_A, VECTOR_A), toB = FIRST_COPY(id, PARTS_B, PITCH_B, VECTOR_B);
  const uint strideA = (uint)p.ldy * STEP_A;
  const int column = firstColumn + partB, endA = firstRow + partA < outputs ? endK : 0, endB = column < columns ? endK : 0;
  int kA = firstK + rowA, kB = firstK + rowB;
  dy += (size_t)kA * p.ldy + group * outputs + firstRow + partA;

  // Where the tap is at the next copy's pixel: row and column of the image, and the element's number modulo 2^32 (outside the
  // image it is not read).
  const int tap = column / inputs, channel = column - tap * inputs, tapH = tap / p.kw;
  const int down = tapH * p.dilationH - p.padH, right = (tap - tapH * p.kw) * p.dilationW - p.padW;
  const int image = p.oh * p.ow, width = p.ow * p.strideW, height = p.oh * p.strideH, endW = width + right, endH = height + down;
  const int n = kB / image, rest = kB - n * image, row = rest / p.ow;
  int h = row * p.strideH + down, w = (rest - row * p.ow) * p.strideW + right;
  uint at = ((uint)(n * p.h + h) * (uint)p.w + (uint)w) * (uint)p.ldx + (uint)(group * inputs + channel);
  // STEP_B pixels on, and what changes at the ends of rows and images.
  const int images = STEP_B / image, moreRows = (STEP_B - images * image) / p.ow;
  const int moreH = moreRows * p.strideH, moreW = (STEP_B - images * image - moreRows * p.ow) * p.strideW;
  const uint more = ((uint)(images * p.h + moreH) * (uint)p.w + (uint)moreW) * (uint)p.ldx;
  const uint nextRow = (uint)(p.strideH * p.w - width) * (uint)p.ldx, nextImage = (uint)((p.h - height) * p.w) * (uint)p.ldx;
#define INSIDE_A(i) (kA + i * STEP_A < endA)
#define FROM_A(i) dy + (size_t)(i * strideA)
#define COPY(stage)                                                                                    \
  COPY_BLOCK((stage), toA, COPIES_A, STEP_A, PITCH_A, VECTOR_A, FROM_A, INSIDE_A)                        \
  UNROLLED for (int i = 0; i < COPIES_B; ++i) {                                                        \
    bool inside = kB + i * STEP_B < endB && (uint)h < (uint)p.h && (uint)w < (uint)p.w;                \
    copy_async(COPY_PLACE((stage) + STAGE_A, toB, i, STEP_B, PITCH_B), x + (size_t)at, inside, VECTOR_B); \
    at += more, h += moreH, w += moreW;                                                                \
    if (w >= endW) { w -= width; h += p.strideH; at += nextRow; }                                      \
    if (h >= endH) { h -= height; at += nextImage; }                                                   \
  }                                                                                                    \
  kA += TILE_K;                                                                                        \
  kB += TILE_K;                                                                                        \
  dy += (size_t)p.ldy * TILE_K;

  SUMS_ZERO
  const int blocksK = (endK - firstK + TILE_K - 1) / TILE_K;
  MATRIX_LOOP(blocksK, COPY)
  STORE_BLOCK(firstRow, outputs, firstColumn, columns, 0, dy, 0, partial + ((size_t)split * p.oc + group * outputs) * columns, columns, p.epilogue)
}
