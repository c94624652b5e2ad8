// Tiles of matrix products on packed weights, and blocks of them: what a work-item of gemm.cl computes, and the pointwise
// convolutions inside separable.cl.
#ifndef GRAFT_CPU_GEMM_TILE_H
#define GRAFT_CPU_GEMM_TILE_H
#include "cpu/tile.h"

#define GEMM_TILE(MR, NV)                                                                                             \
  INLINE void GRAFT_JOIN(gemm_tile_##MR##x, NV)(                                                                      \
      GLOBAL const element *x, GLOBAL const element *weights, GLOBAL const float *bias, GLOBAL const element *residual, \
      GLOBAL element *y, int rows, int count, int lda, int ldr, int ldy, int channels, const GraftEpilogue epilogue) { \
    GLOBAL const element *a[MR];                                                                                      \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) a[m] = x + (size_t)(m < rows ? m : rows - 1) * lda;                \
    TILE_EXPECT(MR, NV)                                                                                               \
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

// y = epilogue(a w) for `rows` rows, panels firstPanel … endPanel - 1 of n channels; w packed (tile.h), k terms a sum. A panel stays
// in the cache nearest to the core while the rows pass by.
INLINE void gemm_block(
    GLOBAL const element *a, GLOBAL const element *packed, GLOBAL const float *bias, GLOBAL const element *residual, GLOBAL element *y, int rows,
    int n, int k, int lda, int ldr, int ldy, int firstPanel, int endPanel, const GraftEpilogue epilogue) {
  for (int panel = firstPanel; panel < endPanel; ++panel) {
    int channel = panel * PANEL, channels = min(PANEL, n - channel);
    int vectors = (channels + VW - 1) / VW, step = tile_rows(vectors);
    GLOBAL const element *weights = packed + (size_t)TAP_ROWS(k) * channel;
    for (int row = 0; row < rows; row += step) {
      int count = min(step, rows - row);
      GLOBAL const element *from = a + (size_t)row * lda;
      GLOBAL const element *added = residual + (size_t)row * ldr + channel;
      GLOBAL element *to = y + (size_t)row * ldy + channel;
#define GEMM_CASE(MR, NV) GRAFT_JOIN(gemm_tile_##MR##x, NV)(from, weights, bias + channel, added, to, count, k, lda, ldr, ldy, channels, epilogue)
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

#endif
