// Matrix product, channels last:  y[b] = epilogue(a[b] w[b]),  a: [m, k] rows lda apart, w packed (tile.h), y: [m, n].
//
// Work-items: x blocks of p.rowsPerItem rows, y blocks of p.panelsPerItem panels, z matrices of the batch.
#include "cpu/gemm_tile.h"

KERNEL5(gemm, GLOBAL const element *a, GLOBAL const element *w, GLOBAL const float *bias, GLOBAL const element *residual, GLOBAL element *y, GraftGemmParams) {
  int firstRow = ITEM_X * p.rowsPerItem, endRow = min(firstRow + p.rowsPerItem, p.m);
  int panels = (p.n + PANEL - 1) / PANEL;
  int firstPanel = ITEM_Y * p.panelsPerItem, endPanel = min(firstPanel + p.panelsPerItem, panels);
  gemm_block(
      a + (size_t)ITEM_Z * p.strideA + (size_t)firstRow * p.lda, w + (size_t)ITEM_Z * p.strideB, bias,
      residual + (size_t)ITEM_Z * p.strideR + (size_t)firstRow * p.ldr, y + (size_t)ITEM_Z * p.strideY + (size_t)firstRow * p.ldy,
      endRow - firstRow, p.n, p.k, p.lda, p.ldr, p.ldy, firstPanel, endPanel, p.epilogue);
}
