// 2-D convolution as an implicit GEMM, channels last:  rows are output pixels (n, oh, ow), columns output channels, and the
// sum runs over taps (kh, kw) and input channels. For each tap the tile's row pointers move to that tap's pixel, or to a
// row of zeros where it lies in the padding.
//
// Weights packed a group at a time (tile.h): group g begins at  g K round_up(oc/groups, VW),  K = kh kw c/groups (TAP_ROWS).
// Work-items: x blocks of p.rowsPerItem output pixels, y blocks of p.panelsPerItem panels, z groups.
#include "cpu/tile.h"

// The pixel a row of the tile reads at tap (0, 0): its image, and its row and column (which may lie in the padding).
#define CONV_TILE(MR, NV)                                                                                                    \
  INLINE void GRAFT_JOIN(conv_tile_##MR##x, NV)(                                                                             \
      GLOBAL const element *x, GLOBAL const element *weights, GLOBAL const float *bias, GLOBAL const element *residual,      \
      GLOBAL const element *zeros, GLOBAL element *y, int row, int rows, int channels, const GraftConvParams p) {            \
    const GraftEpilogue epilogue = p.epilogue;                                                                               \
    const int ldr = p.ldr, ldy = p.ldy;                                                                                      \
    bool inside = p.joinsTaps;                                                                                               \
    GLOBAL const element *image[MR];                                                                                         \
    int top[MR], left[MR];                                                                                                   \
    int n = row / (p.oh * p.ow), oh = (row - n * (p.oh * p.ow)) / p.ow, ow = row - (n * p.oh + oh) * p.ow;                   \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                         \
      image[m] = x + (size_t)n * p.h * p.w * p.ldx;                                                                          \
      top[m] = oh * p.strideH - p.padH;                                                                                      \
      left[m] = ow * p.strideW - p.padW;                                                                                     \
      inside = inside && left[m] >= 0 && left[m] + p.kw <= p.w;                                                              \
      if (m + 1 < rows && ++ow == p.ow) {                                                                                    \
        ow = 0;                                                                                                              \
        if (++oh == p.oh) {                                                                                                  \
          oh = 0;                                                                                                            \
          ++n;                                                                                                               \
        }                                                                                                                    \
      }                                                                                                                      \
    }                                                                                                                        \
    TILE_ZERO(MR, NV)                                                                                                        \
    /* The taps of a row of the kernel lie beside each other, unless one of them is in the padding. */                       \
    const int taps = inside ? p.kw : 1, count = taps * (p.c / p.groups);                                                     \
    for (int i = 0; i < p.kh; ++i)                                                                                           \
      for (int j = 0; j < p.kw; j += taps) {                                                                                 \
        GLOBAL const element *a[MR];                                                                                         \
        _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                     \
          int h = top[m] + i * p.dilationH, w = left[m] + j * p.dilationW;                                                   \
          a[m] = (uint)h < (uint)p.h && (uint)w < (uint)p.w ? image[m] + ((size_t)h * p.w + w) * p.ldx : zeros;              \
        }                                                                                                                    \
        TILE_ACCUMULATE(MR, NV)                                                                                              \
      }                                                                                                                      \
    TILE_STORE(MR, NV)                                                                                                       \
  }

#if PANEL_VECTORS == 4
CONV_TILE(6, 4)
CONV_TILE(8, 3)
CONV_TILE(12, 2)
#else
CONV_TILE(6, 2)
#endif
CONV_TILE(12, 1)

KERNEL6(conv, GLOBAL const element *x, GLOBAL const element *w, GLOBAL const float *bias, GLOBAL const element *residual, GLOBAL const element *zeros, GLOBAL element *y, GraftConvParams) {
  int total = p.n * p.oh * p.ow, group = ITEM_Z;
  int firstRow = ITEM_X * p.rowsPerItem, endRow = min(firstRow + p.rowsPerItem, total);
  int groupInputs = p.c / p.groups, groupOutputs = p.oc / p.groups;
  int k = p.kh * p.kw * TAP_ROWS(groupInputs), panels = (groupOutputs + PANEL - 1) / PANEL;
  int firstPanel = ITEM_Y * p.panelsPerItem, endPanel = min(firstPanel + p.panelsPerItem, panels);
  GLOBAL const element *from = x + group * groupInputs;
  GLOBAL const element *packed = w + (size_t)group * k * ((groupOutputs + VW - 1) / VW * VW);
  for (int panel = firstPanel; panel < endPanel; ++panel) {
    int first = panel * PANEL, channels = min(PANEL, groupOutputs - first), channel = group * groupOutputs + first;
    int vectors = (channels + VW - 1) / VW, step = tile_rows(vectors);
    GLOBAL const element *weights = packed + (size_t)k * first;
    for (int row = firstRow; row < endRow; row += step) {
      int rows = min(step, endRow - row);
      GLOBAL const element *added = residual + (size_t)row * p.ldr + channel;
      GLOBAL element *to = y + (size_t)row * p.ldy + channel;
#define CONV_CASE(MR, NV) GRAFT_JOIN(conv_tile_##MR##x, NV)(from, weights, bias + channel, added, zeros, to, row, rows, channels, p)
      switch (vectors) {
#if PANEL_VECTORS == 4
      case 4: CONV_CASE(6, 4); break;
      case 3: CONV_CASE(8, 3); break;
      case 2: CONV_CASE(12, 2); break;
#else
      case 2: CONV_CASE(6, 2); break;
#endif
      default: CONV_CASE(12, 1); break;
      }
    }
  }
}
