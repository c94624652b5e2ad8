// Matrix product, channels last:  y[b] = epilogue(a[b] w[b]),  a: [m, k] rows lda apart, w packed (tile.h), y: [m, n].
//
// Work-items: x blocks of p.rowsPerItem rows, y blocks of p.panelsPerItem panels, z matrices of the batch. A work-item
// walks its panels, and for each its rows: a panel stays in the cache nearest to the core while the rows pass by.
#include "cpu/tile.h"

#define GEMM_TILE(MR, NV)                                                                                             \
  INLINE void GRAFT_JOIN(gemm_tile_##MR##x, NV)(                                                                      \
      GLOBAL const element *x, GLOBAL const element *weights, GLOBAL const float *bias, GLOBAL const element *residual, \
      GLOBAL element *y, int rows, int count, int lda, int ldr, int ldy, int channels, const GraftEpilogue epilogue) { \
    GLOBAL const element *a[MR];                                                                                      \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) a[m] = x + (size_t)(m < rows ? m : rows - 1) * lda;                \
    TILE_ZERO(MR, NV)                                                                                                 \
    TILE_ACCUMULATE(MR, NV)                                                                                           \
    TILE_STORE(MR, NV)                                                                                                \
  }

#if PANEL_VECTORS == 4
GEMM_TILE(6, 4)
GEMM_TILE(8, 3)
GEMM_TILE(12, 2)
#else
GEMM_TILE(6, 2)
#endif
GEMM_TILE(12, 1)

KERNEL5(gemm, GLOBAL const element *a, GLOBAL const element *w, GLOBAL const float *bias, GLOBAL const element *residual, GLOBAL element *y, GraftGemmParams) {
  int firstRow = ITEM_X * p.rowsPerItem, endRow = min(firstRow + p.rowsPerItem, p.m);
  int panels = (p.n + PANEL - 1) / PANEL;
  int firstPanel = ITEM_Y * p.panelsPerItem, endPanel = min(firstPanel + p.panelsPerItem, panels);
  GLOBAL const element *x = a + (size_t)ITEM_Z * p.strideA;
  GLOBAL const element *packed = w + (size_t)ITEM_Z * p.strideB;
  for (int panel = firstPanel; panel < endPanel; ++panel) {
    int channel = panel * PANEL, channels = min(PANEL, p.n - channel);
    int vectors = (channels + VW - 1) / VW, step = tile_rows(vectors);
    GLOBAL const element *weights = packed + (size_t)TAP_ROWS(p.k) * channel;
    for (int row = firstRow; row < endRow; row += step) {
      int rows = min(step, endRow - row);
      GLOBAL const element *from = x + (size_t)row * p.lda;
      GLOBAL const element *added = residual + (size_t)ITEM_Z * p.strideR + (size_t)row * p.ldr + channel;
      GLOBAL element *to = y + (size_t)ITEM_Z * p.strideY + (size_t)row * p.ldy + channel;
#define GEMM_CASE(MR, NV)                                                                                                   \
  GRAFT_JOIN(gemm_tile_##MR##x, NV)(from, weights, bias + channel, added, to, rows, p.k, p.lda, p.ldr, p.ldy, channels, p.epilogue)
      switch (vectors) {
#if PANEL_VECTORS == 4
      case 4: GEMM_CASE(6, 4); break;
      case 3: GEMM_CASE(8, 3); break;
      case 2: GEMM_CASE(12, 2); break;
#else
      case 2: GEMM_CASE(6, 2); break;
#endif
      default: GEMM_CASE(12, 1); break;
      }
    }
  }
}
