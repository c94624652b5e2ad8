// Matrix product of operands as they lie in memory:  y[b] = epilogue(op(a[b]) op(b[b])),  op as GraftGemmParams says.
//
// For a matrix b that is used once: packing it first (pack.cl) takes longer than the product where a has few rows. Here a
// work-item brings a block of its panel of b, `depth` of k by `width` columns, into memory of its own in the nearest cache and
// lets its rows pass by before it takes the next:
//
//     block (k, n) at  k width + n,   depth width <= BLOCK
//
// Sums wait in y from one block to the next. They grow in the order of k, as those of gemm.cl: the results are the same bits,
// whatever the number of rows. a is read where it lies, transposed or not: all that differs is which step is 1.
// Work-items: x blocks of p.rowsPerItem rows, y panels, z matrices of the batch. float32 only.
#include "cpu/square.h"
#include "cpu/tile.h"

// Floats of a block: 32 KiB, the nearest cache or two thirds of it.
#ifndef BLOCK
#define BLOCK 8192
#endif
// Rows of b that are asked for ahead of the one being read: they lie too far apart for the hardware to guess.
#ifndef ROWS_AHEAD
#define ROWS_AHEAD 24
#endif

// A tile over one block: element (m, k) of a at  x + m stepM + k stepK.  `continues`: the sums so far are in y.
#define PRODUCT_TILE(MR, NV)                                                                                          \
  OUTLINE void GRAFT_JOIN(product_tile_##MR##x, NV)(                                                                  \
      GLOBAL const float *x, const float *weights, GLOBAL const float *bias, GLOBAL const float *residual, GLOBAL float *y, \
      int rows, int count, int stepM, int stepK, int ldr, int ldy, int channels, int continues, const GraftEpilogue epilogue) { \
    GLOBAL const float *a[MR];                                                                                        \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) a[m] = x + (size_t)(m < rows ? m : rows - 1) * stepM;              \
    TILE_ZERO(MR, NV)                                                                                                 \
    if (continues) {                                                                                                  \
      _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                \
        _Pragma("unroll") for (int v = 0; v < NV; ++v)                                                                \
          if (m < rows) sums[m][v] = load_part(y + (size_t)m * ldy + v * VW, channels - v * VW);                      \
      }                                                                                                               \
    }                                                                                                                 \
    size_t at = 0;                                                                                                    \
    for (int k = 0; k < count; ++k, at += stepK) {                                                                    \
      floatv w[NV];                                                                                                   \
      _Pragma("unroll") for (int v = 0; v < NV; ++v) w[v] = LOADV_PRIVATE(weights + v * VW);                          \
      weights += NV * VW;                                                                                             \
      _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                \
        floatv value = SPLAT(a[m][at]);                                                                               \
        _Pragma("unroll") for (int v = 0; v < NV; ++v) sums[m][v] = FMAV(value, w[v], sums[m][v]);                    \
      }                                                                                                               \
    }                                                                                                                 \
    TILE_STORE(MR, NV)                                                                                                \
  }

#if PANEL_VECTORS == 4
PRODUCT_TILE(6, 4)
PRODUCT_TILE(5, 4)
PRODUCT_TILE(3, 4)
PRODUCT_TILE(8, 3)
PRODUCT_TILE(5, 3)
PRODUCT_TILE(12, 2)
PRODUCT_TILE(10, 2)
PRODUCT_TILE(5, 2)
#else
PRODUCT_TILE(6, 2)
PRODUCT_TILE(5, 2)
PRODUCT_TILE(3, 2)
#endif
PRODUCT_TILE(12, 1)
PRODUCT_TILE(10, 1)
PRODUCT_TILE(5, 1)

// A block of b as [K, N] in memory, of which `left` rows are left.
INLINE void take_rows(GLOBAL const float *b, int ldb, float *block, int count, int left, int channels, int width) {
  for (int k = 0; k < count; ++k, b += ldb, block += width) {
    if (k + ROWS_AHEAD < left)
      for (int c = 0; c < channels; c += VW) PREFETCH(b + (size_t)ROWS_AHEAD * ldb + c);
    for (int c = 0; c < width; c += VW) STOREV_PRIVATE(load_part(b + c, channels - c), block + c);
  }
}

// A block of b as [N, K] in memory. Columns beyond the last repeat it: nothing stores their sums.
INLINE void take_columns(GLOBAL const float *b, int ldb, float *block, int count, int channels, int width) {
  for (int c = 0; c < width; c += VW)
    for (int k = 0; k < count; k += VW) {
      floatv square[VW];
#pragma unroll
      for (int i = 0; i < VW; ++i) square[i] = load_part(b + (size_t)min(c + i, channels - 1) * ldb + k, count - k);
      transpose_square(square);
#pragma unroll
      for (int i = 0; i < VW; ++i)
        if (k + i < count) STOREV_PRIVATE(square[i], block + (k + i) * width + c);
    }
}

KERNEL5(product, GLOBAL const float *a, GLOBAL const float *b, GLOBAL const float *bias, GLOBAL const float *residual, GLOBAL float *y, GraftGemmParams) {
  float block[BLOCK] __attribute__((aligned(64)));
  int firstRow = ITEM_X * p.rowsPerItem, endRow = min(firstRow + p.rowsPerItem, p.m);
  int channel = ITEM_Y * PANEL, channels = min(PANEL, p.n - channel);
  int vectors = (channels + VW - 1) / VW, width = vectors * VW, step = tile_rows(vectors);
  int stepM = p.transposeA ? 1 : p.lda, stepK = p.transposeA ? p.lda : 1;
  GLOBAL const float *x = a + (size_t)ITEM_Z * p.strideA;
  GLOBAL const float *source = b + (size_t)ITEM_Z * p.strideB;
  int depth = BLOCK / width / VW * VW, first = 0;
  do {
    int count = min(depth, p.k - first);
    if (p.transposeB) take_columns(source + (size_t)channel * p.ldb + first, p.ldb, block, count, channels, width);
    else take_rows(source + (size_t)first * p.ldb + channel, p.ldb, block, count, p.k - first, channels, width);
    GraftEpilogue epilogue = p.epilogue;
    if (first + count < p.k) {
      epilogue.activation = GRAFT_ACTIVATION_NONE;
      epilogue.hasBias = epilogue.hasResidual = 0;
    }
    for (int row = firstRow; row < endRow;) {
      // As few tiles as it takes, of nearly equal height: a tile computes all the rows it has room for.
      int tiles = (endRow - row + step - 1) / step, rows = (endRow - row + tiles - 1) / tiles;
      GLOBAL const float *from = x + (size_t)row * stepM + (size_t)first * stepK;
      GLOBAL const float *added = residual + (size_t)ITEM_Z * p.strideR + (size_t)row * p.ldr + channel;
      GLOBAL float *to = y + (size_t)ITEM_Z * p.strideY + (size_t)row * p.ldy + channel;
#define PRODUCT_CASE(MR, NV)                                                                                            \
  if (vectors == NV && rows <= MR)                                                                                      \
    GRAFT_JOIN(product_tile_##MR##x, NV)(from, block, bias + channel, added, to, rows, count, stepM, stepK, p.ldr, p.ldy, \
                                         channels, first > 0, epilogue);                                                \
  else
#if PANEL_VECTORS == 4
      PRODUCT_CASE(3, 4) PRODUCT_CASE(5, 4) PRODUCT_CASE(6, 4) PRODUCT_CASE(5, 3) PRODUCT_CASE(8, 3)
      PRODUCT_CASE(5, 2) PRODUCT_CASE(10, 2) PRODUCT_CASE(12, 2)
#else
      PRODUCT_CASE(3, 2) PRODUCT_CASE(5, 2) PRODUCT_CASE(6, 2)
#endif
      PRODUCT_CASE(5, 1) PRODUCT_CASE(10, 1)
      product_tile_12x1(from, block, bias + channel, added, to, rows, count, stepM, stepK, p.ldr, p.ldy, channels, first > 0, epilogue);
      row += rows;
    }
    first += count;
  } while (first < p.k);
}
