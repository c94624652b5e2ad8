// Attention:  y = softmax(scale q k^T + mask) v  for each head, and its gradients. No matrix of scores lies in memory (Dao et al.,
// "FlashAttention", 2022): a work-item takes some rows of one side and lets the other side pass by in blocks, each brought into
// memory of its own in the nearest caches, transposed where it is multiplied along the head's size. float32 whatever the format.
//
// Of a tile of SCORE_ROWS rows and a block, the scores are a small product, and so is what they contribute:
//
//     scores (row, column)  at  row SCORE_COLUMNS + column         sums (row, d)  at  row width + d,  width = size in whole vectors
//
// The rows' greatest scores and totals are those of the blocks so far; where a block raises one, the sums so far shrink. Blocks
// begin at multiples of their length, so a row's result does not depend on the other rows of its work-item.
// Operands lie as GraftHeads says. Work-items: x blocks of p.rowsPerItem rows, y heads, z images.
#include "cpu/square.h"
#include "cpu/tile.h"

// Columns of a block (half as many where heads are longer than 128) and rows of a tile.
#define SCORE_COLUMNS 64
#define SCORE_BLOCK_FLOATS (SCORE_COLUMNS * 128)
#define SCORE_ROWS 24
#define SCORE_ROWS_IN_VECTORS ((SCORE_ROWS + VW - 1) / VW * VW)
// A head's largest size, and the sums that a work-item has: rows times width.
#define MOST_SIZE 256
#define MOST_SUMS 16384
#define MOST_ROWS (MOST_SUMS / VW)

// c[m][n] = c[m][n] factors[m] + sum over k of a[m][k] w[k][n]; without factors, c begins at 0.
#define ATTENTION_TILE(MR, NV)                                                                                          \
  OUTLINE void GRAFT_JOIN(attention_tile_##MR##x, NV)(                                                                  \
      const float *a, int lda, const float *w, int ldw, float *c, int ldc, int count, const float *factors) {           \
    TILE_ZERO(MR, NV)                                                                                                   \
    if (factors) {                                                                                                      \
      _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                  \
        _Pragma("unroll") for (int v = 0; v < NV; ++v) sums[m][v] = LOADV_PRIVATE(c + m * ldc + v * VW) * SPLAT(factors[m]); \
      }                                                                                                                 \
    }                                                                                                                   \
    for (int k = 0; k < count; ++k, w += ldw) {                                                                         \
      floatv row[NV];                                                                                                   \
      _Pragma("unroll") for (int v = 0; v < NV; ++v) row[v] = LOADV_PRIVATE(w + v * VW);                                \
      _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                  \
        floatv value = SPLAT(a[m * lda + k]);                                                                           \
        _Pragma("unroll") for (int v = 0; v < NV; ++v) sums[m][v] = FMAV(value, row[v], sums[m][v]);                    \
      }                                                                                                                 \
    }                                                                                                                   \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                    \
      _Pragma("unroll") for (int v = 0; v < NV; ++v) STOREV_PRIVATE(sums[m][v], c + m * ldc + v * VW);                  \
    }                                                                                                                   \
  }

#if PANEL_VECTORS == 4
ATTENTION_TILE(6, 4)
ATTENTION_TILE(3, 4)
ATTENTION_TILE(8, 3)
ATTENTION_TILE(12, 2)
#else
ATTENTION_TILE(6, 2)
ATTENTION_TILE(3, 2)
#endif
ATTENTION_TILE(12, 1)

// The same for `rows` rows, in whole tiles: rows beyond them exist (SCORE_ROWS is a multiple of every tile), and nobody reads them.
INLINE void multiply(const float *a, int lda, const float *w, int ldw, float *c, int ldc, int rows, int columns, int count, const float *factors) {
  for (int n = 0; n < columns; n += PANEL) {
    int vectors = min(PANEL_VECTORS, (columns - n + VW - 1) / VW);
    for (int m = 0; m < rows;) {
#define MULTIPLY_TILE(MR, NV)                                                                                            \
  {                                                                                                                     \
    GRAFT_JOIN(attention_tile_##MR##x, NV)(a + m * lda, lda, w + n, ldw, c + m * ldc + n, ldc, count, factors ? factors + m : 0); \
    m += MR;                                                                                                            \
  }
#if PANEL_VECTORS == 4
      if (vectors == 4 && rows - m <= 3) MULTIPLY_TILE(3, 4)
      else if (vectors == 4) MULTIPLY_TILE(6, 4)
      else if (vectors == 3) MULTIPLY_TILE(8, 3)
      else if (vectors == 2) MULTIPLY_TILE(12, 2)
#else
      if (vectors == 2 && rows - m <= 3) MULTIPLY_TILE(3, 2)
      else if (vectors == 2) MULTIPLY_TILE(6, 2)
#endif
      else MULTIPLY_TILE(12, 1)
    }
  }
}

// `count` rows of `size` elements as floats times `factor`, `width` apart; zeros beyond.
INLINE void bring_rows(GLOBAL const element *x, int step, float *to, int count, int size, int width, float factor) {
  for (int row = 0; row < count; ++row, x += step, to += width)
    for (int d = 0; d < width; d += VW) STOREV_PRIVATE(load_part(x + d, size - d) * SPLAT(factor), to + d);
}

// The same transposed: (d, row) at  d columns + row,  columns = count in whole vectors. Rows beyond the last repeat it.
INLINE void bring_columns(GLOBAL const element *x, int step, float *to, int count, int size, int columns) {
  for (int row = 0; row < columns; row += VW)
    for (int d = 0; d < size; d += VW) {
      floatv square[VW];
#pragma unroll
      for (int i = 0; i < VW; ++i) square[i] = load_part(x + (size_t)min(row + i, count - 1) * step + d, size - d);
      transpose_square(square);
#pragma unroll
      for (int i = 0; i < VW; ++i)
        if (d + i < size) STOREV_PRIVATE(square[i], to + (d + i) * columns + row);
    }
}

INLINE void clear(float *to, int count) {
  for (int i = 0; i < count; i += VW) STOREV_PRIVATE(SPLAT(0.0f), to + i);
}

// Elements of a mask, `step` apart.
INLINE floatv mask_part(GLOBAL const float *mask, int step, int count) {
  if (step == 1) return float_part(mask, count);
  float part[VW];
  for (int i = 0; i < VW; ++i) part[i] = i < count ? mask[(size_t)i * step] : 0.0f;
  return LOADV_PRIVATE(part);
}

#define HEAD_OF(layout) ((size_t)ITEM_Z * (layout).image + (size_t)ITEM_Y * (layout).head + (layout).offset)
#define MASK_HEAD(p) ((size_t)(ITEM_Z % (p).maskImages) * (p).maskImage + (size_t)ITEM_Y * (p).maskHead)

INLINE int block_length(int size) { return size > 128 ? SCORE_COLUMNS / 2 : SCORE_COLUMNS; }
INLINE int whole_vectors(int count) { return (count + VW - 1) / VW * VW; }

// From a tile's scores to the exponentials of what they are above each row's greatest so far, totals included; `factors` says how
// much that shrinks what was summed before. Columns beyond the last become 0.
INLINE void weigh(
    float *scores, int rows, int columns, int hasMask, GLOBAL const float *mask, int maskRow, int maskColumn, float *greatest, float *totals,
    float *factors) {
  float next[SCORE_ROWS_IN_VECTORS];
  for (int m = 0; m < rows; ++m) {
    floatv most = SPLAT(greatest[m]);
    for (int n = 0; n < columns; n += VW) {
      int count = min(VW, columns - n);
      floatv score = LOADV_PRIVATE(scores + m * SCORE_COLUMNS + n);
      if (hasMask) score += mask_part(mask + (size_t)m * maskRow + (size_t)n * maskColumn, maskColumn, count);
      if (count < VW) score = first_lanes(score, count, -INFINITY);
      if (hasMask || count < VW) STOREV_PRIVATE(score, scores + m * SCORE_COLUMNS + n);
      most = MAXV(most, score);
    }
    next[m] = maximum_of(most);
  }
  for (int m = rows; m < SCORE_ROWS_IN_VECTORS; ++m) next[m] = greatest[m];
  for (int m = 0; m < SCORE_ROWS_IN_VECTORS; m += VW)
    STOREV_PRIVATE(exp_factor_v(LOADV_PRIVATE(greatest + m) - LOADV_PRIVATE(next + m)), factors + m);
  for (int m = 0; m < rows; ++m) {
    floatv total = SPLAT(0.0f);
    for (int n = 0; n < columns; n += VW) {
      floatv e = exp_factor_v(LOADV_PRIVATE(scores + m * SCORE_COLUMNS + n) - SPLAT(next[m]));
      STOREV_PRIVATE(e, scores + m * SCORE_COLUMNS + n);
      total += e;
    }
    totals[m] = totals[m] * factors[m] + sum_of(total);
    greatest[m] = next[m];
  }
}

// What a work-item keeps of its rows besides their sums. The greatest score begins at the least number there is, and not at
// -infinity: a block may be masked as a whole.
#define ROW_STATE                                                               \
  float greatest[MOST_ROWS + SCORE_ROWS_IN_VECTORS], totals[MOST_ROWS + SCORE_ROWS_IN_VECTORS], factors[SCORE_ROWS_IN_VECTORS]; \
  for (int i = 0; i < MOST_ROWS + SCORE_ROWS_IN_VECTORS; ++i) greatest[i] = -3.402823466e38f, totals[i] = 0.0f;

KERNEL5(attention, GLOBAL const element *q, GLOBAL const element *k, GLOBAL const element *v, GLOBAL const float *mask, GLOBAL element *y,
        GraftAttentionParams) {
  float across[SCORE_BLOCK_FLOATS] __attribute__((aligned(64))), along[SCORE_BLOCK_FLOATS] __attribute__((aligned(64)));
  float tile[SCORE_ROWS * MOST_SIZE] __attribute__((aligned(64))), scores[SCORE_ROWS * SCORE_COLUMNS] __attribute__((aligned(64)));
  float sums[MOST_SUMS] __attribute__((aligned(64)));
  int first = ITEM_X * p.rowsPerItem, rows = min(p.rowsPerItem, p.queries - first);
  int width = whole_vectors(p.size), length = block_length(p.size);
  ROW_STATE
  clear(tile, SCORE_ROWS * width);
  clear(sums, (rows + SCORE_ROWS - 1) / SCORE_ROWS * SCORE_ROWS * width);
  q += HEAD_OF(p.q) + (size_t)first * p.q.token;
  k += HEAD_OF(p.k);
  v += HEAD_OF(p.v);
  y += HEAD_OF(p.y) + (size_t)first * p.y.token;
  mask += MASK_HEAD(p) + (size_t)first * p.maskQuery;
  for (int key = 0; key < p.keys; key += length) {
    int count = min(length, p.keys - key), columns = whole_vectors(count);
    bring_columns(k + (size_t)key * p.k.token, p.k.token, across, count, p.size, columns);
    bring_rows(v + (size_t)key * p.v.token, p.v.token, along, count, p.size, width, 1.0f);
    for (int row = 0; row < rows; row += SCORE_ROWS) {
      int tileRows = min(SCORE_ROWS, rows - row);
      bring_rows(q + (size_t)row * p.q.token, p.q.token, tile, tileRows, p.size, width, p.scale);
      multiply(tile, width, across, columns, scores, SCORE_COLUMNS, tileRows, columns, p.size, 0);
      weigh(scores, tileRows, count, p.hasMask, mask + (size_t)row * p.maskQuery + (size_t)key * p.maskKey, p.maskQuery, p.maskKey,
            greatest + row, totals + row, factors);
      multiply(scores, SCORE_COLUMNS, along, width, sums + row * width, width, tileRows, width, count, factors);
    }
  }
  for (int row = 0; row < rows; ++row)
    for (int d = 0; d < p.size; d += VW)
      store_part(LOADV_PRIVATE(sums + row * width + d) * SPLAT(1.0f / totals[row]), y + (size_t)row * p.y.token + d, p.size - d);
}

// The gradient of q, dq = scale g k with g = w (dy v^T - delta), w the softmax and delta = sum over d of dy y, and for the other
// kernel the logarithm of each row's sum of exponentials and its delta, one after the other:
//     statistics (image, head, query)  at  (image heads + head) queries + query,  then all deltas.
KERNEL8(attention_gradient_queries, GLOBAL const element *q, GLOBAL const element *k, GLOBAL const element *v, GLOBAL const float *mask,
        GLOBAL const element *y, GLOBAL const element *dy, GLOBAL float *statistics, GLOBAL element *dx, GraftAttentionGradientParams) {
  const GraftAttentionParams f = p.forward;
  float across[SCORE_BLOCK_FLOATS / 2] __attribute__((aligned(64))), valuesAcross[SCORE_BLOCK_FLOATS / 2] __attribute__((aligned(64)));
  float along[SCORE_BLOCK_FLOATS / 2] __attribute__((aligned(64)));
  float tile[SCORE_ROWS * MOST_SIZE] __attribute__((aligned(64))), upstream[SCORE_ROWS * MOST_SIZE] __attribute__((aligned(64)));
  float scores[SCORE_ROWS * SCORE_COLUMNS] __attribute__((aligned(64))), slopes[SCORE_ROWS * SCORE_COLUMNS] __attribute__((aligned(64)));
  float sums[MOST_SUMS] __attribute__((aligned(64))), deltas[MOST_ROWS];
  int first = ITEM_X * f.rowsPerItem, rows = min(f.rowsPerItem, f.queries - first);
  int width = whole_vectors(f.size), length = block_length(f.size) / 2;
  ROW_STATE
  clear(tile, SCORE_ROWS * width);
  clear(upstream, SCORE_ROWS * width);
  clear(sums, (rows + SCORE_ROWS - 1) / SCORE_ROWS * SCORE_ROWS * width);
  q += HEAD_OF(f.q) + (size_t)first * f.q.token;
  k += HEAD_OF(f.k);
  v += HEAD_OF(f.v);
  y += HEAD_OF(f.y) + (size_t)first * f.y.token;
  dy += HEAD_OF(f.y) + (size_t)first * f.y.token;
  dx += HEAD_OF(p.dq) + (size_t)first * p.dq.token;
  mask += MASK_HEAD(f) + (size_t)first * f.maskQuery;
  statistics += ((size_t)ITEM_Z * f.heads + ITEM_Y) * f.queries + first;
  for (int row = 0; row < rows; ++row) {
    floatv total = SPLAT(0.0f);
    for (int d = 0; d < f.size; d += VW)
      total += load_part(y + (size_t)row * f.y.token + d, f.size - d) * load_part(dy + (size_t)row * f.y.token + d, f.size - d);
    deltas[row] = sum_of(total);
  }
  for (int key = 0; key < f.keys; key += length) {
    int count = min(length, f.keys - key), columns = whole_vectors(count);
    bring_columns(k + (size_t)key * f.k.token, f.k.token, across, count, f.size, columns);
    bring_columns(v + (size_t)key * f.v.token, f.v.token, valuesAcross, count, f.size, columns);
    bring_rows(k + (size_t)key * f.k.token, f.k.token, along, count, f.size, width, 1.0f);
    for (int row = 0; row < rows; row += SCORE_ROWS) {
      int tileRows = min(SCORE_ROWS, rows - row);
      bring_rows(q + (size_t)row * f.q.token, f.q.token, tile, tileRows, f.size, width, f.scale);
      bring_rows(dy + (size_t)row * f.y.token, f.y.token, upstream, tileRows, f.size, width, 1.0f);
      multiply(tile, width, across, columns, scores, SCORE_COLUMNS, tileRows, columns, f.size, 0);
      multiply(upstream, width, valuesAcross, columns, slopes, SCORE_COLUMNS, tileRows, columns, f.size, 0);
      weigh(scores, tileRows, count, f.hasMask, mask + (size_t)row * f.maskQuery + (size_t)key * f.maskKey, f.maskQuery, f.maskKey,
            greatest + row, totals + row, factors);
      for (int m = 0; m < tileRows; ++m)
        for (int n = m * SCORE_COLUMNS; n < m * SCORE_COLUMNS + count; n += VW)
          STOREV_PRIVATE(LOADV_PRIVATE(scores + n) * (LOADV_PRIVATE(slopes + n) - SPLAT(deltas[row + m])), scores + n);
      multiply(scores, SCORE_COLUMNS, along, width, sums + row * width, width, tileRows, width, count, factors);
    }
  }
  for (int row = 0; row < rows; ++row) {
    for (int d = 0; d < f.size; d += VW)
      store_part(LOADV_PRIVATE(sums + row * width + d) * SPLAT(f.scale / totals[row]), dx + (size_t)row * p.dq.token + d, f.size - d);
    statistics[row] = greatest[row] + log_v(SPLAT(totals[row])).s0;
    statistics[(size_t)f.batch * f.heads * f.queries + row] = deltas[row];
  }
}

// The gradients of k and v, dk = scale g^T q and dv = w^T dy: rows are keys here, and queries pass by.
KERNEL7(attention_gradient_keys, GLOBAL const element *q, GLOBAL const element *k, GLOBAL const element *v, GLOBAL const float *mask,
        GLOBAL const element *dy, GLOBAL const float *statistics, GLOBAL element *dx, GraftAttentionGradientParams) {
  const GraftAttentionParams f = p.forward;
  float across[SCORE_BLOCK_FLOATS / 2] __attribute__((aligned(64))), upstreamAcross[SCORE_BLOCK_FLOATS / 2] __attribute__((aligned(64)));
  float along[SCORE_BLOCK_FLOATS / 2] __attribute__((aligned(64))), upstreamAlong[SCORE_BLOCK_FLOATS / 2] __attribute__((aligned(64)));
  float keys[SCORE_ROWS * MOST_SIZE] __attribute__((aligned(64))), values[SCORE_ROWS * MOST_SIZE] __attribute__((aligned(64)));
  float scores[SCORE_ROWS * SCORE_COLUMNS] __attribute__((aligned(64))), slopes[SCORE_ROWS * SCORE_COLUMNS] __attribute__((aligned(64)));
  float sumsOfKeys[MOST_SUMS] __attribute__((aligned(64))), sumsOfValues[MOST_SUMS] __attribute__((aligned(64)));
  float ones[SCORE_ROWS];
  int first = ITEM_X * f.rowsPerItem, rows = min(f.rowsPerItem, f.keys - first);
  int width = whole_vectors(f.size), length = block_length(f.size) / 2;
  for (int m = 0; m < SCORE_ROWS; ++m) ones[m] = 1.0f;
  clear(keys, SCORE_ROWS * width);
  clear(values, SCORE_ROWS * width);
  clear(sumsOfKeys, (rows + SCORE_ROWS - 1) / SCORE_ROWS * SCORE_ROWS * width);
  clear(sumsOfValues, (rows + SCORE_ROWS - 1) / SCORE_ROWS * SCORE_ROWS * width);
  q += HEAD_OF(f.q);
  k += HEAD_OF(f.k) + (size_t)first * f.k.token;
  v += HEAD_OF(f.v) + (size_t)first * f.v.token;
  dy += HEAD_OF(f.y);
  mask += MASK_HEAD(f) + (size_t)first * f.maskKey;
  statistics += ((size_t)ITEM_Z * f.heads + ITEM_Y) * f.queries;
  GLOBAL const float *deltas = statistics + (size_t)f.batch * f.heads * f.queries;
  for (int query = 0; query < f.queries; query += length) {
    int count = min(length, f.queries - query), columns = whole_vectors(count);
    bring_columns(q + (size_t)query * f.q.token, f.q.token, across, count, f.size, columns);
    bring_columns(dy + (size_t)query * f.y.token, f.y.token, upstreamAcross, count, f.size, columns);
    bring_rows(q + (size_t)query * f.q.token, f.q.token, along, count, f.size, width, 1.0f);
    bring_rows(dy + (size_t)query * f.y.token, f.y.token, upstreamAlong, count, f.size, width, 1.0f);
    for (int row = 0; row < rows; row += SCORE_ROWS) {
      int tileRows = min(SCORE_ROWS, rows - row);
      bring_rows(k + (size_t)row * f.k.token, f.k.token, keys, tileRows, f.size, width, f.scale);
      bring_rows(v + (size_t)row * f.v.token, f.v.token, values, tileRows, f.size, width, 1.0f);
      multiply(keys, width, across, columns, scores, SCORE_COLUMNS, tileRows, columns, f.size, 0);
      multiply(values, width, upstreamAcross, columns, slopes, SCORE_COLUMNS, tileRows, columns, f.size, 0);
      for (int n = 0; n < count; n += VW) {
        int part = min(VW, count - n);
        floatv logarithm = float_part(statistics + query + n, part), delta = float_part(deltas + query + n, part);
        for (int m = 0; m < tileRows; ++m) {
          float *at = scores + m * SCORE_COLUMNS + n, *slope = slopes + m * SCORE_COLUMNS + n;
          floatv score = LOADV_PRIVATE(at);
          if (f.hasMask) score += mask_part(mask + (size_t)(row + m) * f.maskKey + (size_t)(query + n) * f.maskQuery, f.maskQuery, part);
          floatv weight = exp_factor_v(score - logarithm);
          STOREV_PRIVATE(weight, at);
          STOREV_PRIVATE(weight * (LOADV_PRIVATE(slope) - delta), slope);
        }
      }
      multiply(scores, SCORE_COLUMNS, upstreamAlong, width, sumsOfValues + row * width, width, tileRows, width, count, ones);
      multiply(slopes, SCORE_COLUMNS, along, width, sumsOfKeys + row * width, width, tileRows, width, count, ones);
    }
  }
  GLOBAL element *dk = dx + HEAD_OF(p.dk) + (size_t)first * p.dk.token, *dv = dx + HEAD_OF(p.dv) + (size_t)first * p.dv.token;
  for (int row = 0; row < rows; ++row)
    for (int d = 0; d < f.size; d += VW) {
      store_part(LOADV_PRIVATE(sumsOfKeys + row * width + d) * SPLAT(f.scale), dk + (size_t)row * p.dk.token + d, f.size - d);
      store_part(LOADV_PRIVATE(sumsOfValues + row * width + d), dv + (size_t)row * p.dv.token + d, f.size - d);
    }
}
