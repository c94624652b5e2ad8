// What the gradients of attention on matrix units share (matrix_attention_gradient_{queries,keys,values}.cl; a program each, as those of
// attention_tile.h, which they compute the same as).
//
// A kernel says SIDES, and STATISTICS, how many numbers of a column it reads.
//
// A work-group has TILE_M rows of a head, queries for dq and keys for dk and dv, and lets the other side pass by, KEYS columns of it at
// a time. AT_ONCE steps of 16 columns at a time it computes
//
//     scores, slopes   SIDES products, rows of one operand times columns of another, both along the head
//     weights, or g    float32, from scores and slopes in the registers that the scores lie in
//     sums             plus those, rounded to 16 bits, times columns' rows across (values in matrix_attention.h)
//
// Nothing waits for a whole block's greatest, so no more scores than that are in registers at once.
//
// Columns of a block are in local memory along the head, a side after the other, and then across it; on NVIDIA, whose loads transpose,
// the same copy serves both where the sums have the whole head. Two stages where there is memory for them and copies run behind the
// program's back.
#ifndef GRAFT_GPU_MATRIX_ATTENTION_GRADIENT_H
#define GRAFT_GPU_MATRIX_ATTENTION_GRADIENT_H

// Tunables; MatrixAttentionGradientTile (Sources/GraftGraph/Lowering/MatrixAttentionGradient.swift) sets them and those of
// matrix_attention.h.
#ifndef KEYS
#define KEYS 32      // columns in local memory, a multiple of 32
#endif
#ifndef STAGES
#define STAGES 1     // blocks of columns in local memory: 1 or 2
#endif
#ifndef AT_ONCE
#define AT_ONCE 2    // steps of 16 columns whose scores are in registers: 1 or 2
#endif
#ifndef KEEPS_ROWS
#define KEEPS_ROWS 1 // whether a warp's rows stay in registers, or are read again with every block of columns
#endif
#include "gpu/matrix_attention.h"

#define SIDE_ROWS (SLICES(HEAD) * TILE_M * SLICE_ROW)
#define SIDE_COLUMNS (SLICES(HEAD) * KEYS * SLICE_ROW)
// Whether what is read across is the first side's columns as they lie there.
#define SHARES_VALUES (SIDES == 2 && MATRIX_NVIDIA && WIDTH == HEAD)
#if SHARES_VALUES
#define BLOCK_VALUE_BYTES 0
#define VALUES_OF(block) (block)
#else
#define BLOCK_VALUE_BYTES VALUE_BYTES
#define VALUES_OF(block) ((block) + SIDES * SIDE_COLUMNS)
#endif
// Where columns are queries, what their kernel left of each, STATISTICS numbers, of which a lane needs those of its sums' columns: by way
// of local memory where they are many, whose addresses there are no registers for.
#define STAGES_STATISTICS (STATISTICS > 0 && SUM_COLUMNS > 2)
#define BLOCK_BYTES (SIDES * SIDE_COLUMNS + BLOCK_VALUE_BYTES + (STAGES_STATISTICS ? 4 * STATISTICS * KEYS : 0))

#define GRADIENT_MEMORY                                                   \
  __local uchar rows[SIDES * SIDE_ROWS] __attribute__((aligned(128)));     \
  __local uchar columns[STAGES * BLOCK_BYTES] __attribute__((aligned(128))); \
  EXCHANGE_MEMORY

// A side's rows, and its columns, both of `size` elements along the head.
#define BRING_ROWS(side, x, token, count, size) \
  BRING(rows + (side) * SIDE_ROWS, TILE_M, SLICES(HEAD), x, token, firstOfGroup, count, size)
#define BRING_COLUMNS(to, side, x, token, first, count, size) \
  BRING((to) + (side) * SIDE_COLUMNS, KEYS, SLICES(HEAD), x, token, first, count, size)
#if SHARES_VALUES
#define BRING_ACROSS(to, x, token, first, count, size)
#else
#define BRING_ACROSS(to, x, token, first, count, size) BRING_VALUES(VALUES_OF(to), (x) + start, token, first, count, (size) - start)
#endif

// Around the work on the block of columns from `column` on, of which `left` are left: BRING_BLOCK(to, first), a kernel's own, queues the
// copies of the next.
#if STAGES == 2
#define BLOCK_AT(column) (columns + (column) / KEYS % 2 * BLOCK_BYTES)
#define BEGIN_BLOCK                                                              \
  COPY_WAIT(0)                                                                   \
  LOCAL_BARRIER;                                                                 \
  if (left > KEYS) { BRING_BLOCK(BLOCK_AT(column + KEYS), column + KEYS) }        \
  COPY_COMMIT
#define END_BLOCK
#else
#define BLOCK_AT(column) columns
#define BEGIN_BLOCK \
  COPY_WAIT(0)      \
  LOCAL_BARRIER;
#define END_BLOCK                                            \
  LOCAL_BARRIER;                                             \
  if (left > KEYS) { BRING_BLOCK(columns, column + KEYS) }    \
  COPY_COMMIT
#endif

// A step of a side's rows as operand A.
#if KEEPS_ROWS
#define ROWS_MEMORY uint kept[SIDES][STEPS][FRAGMENTS_M][WORDS_A];
#define KEEP_ROWS                                                                                                     \
  if (column == 0) {                                                                                                  \
    UNROLLED for (int side = 0; side < SIDES; ++side)                                                                 \
      UNROLLED for (int step = 0; step < STEPS; ++step) {                                                             \
        load_fragments_a(rows + side * SIDE_ROWS + step / 2 * (TILE_M * SLICE_ROW), step % 2, &f, lane, warp);        \
        UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)                                                                \
          UNROLLED for (int w = 0; w < WORDS_A; ++w) kept[side][step][i][w] = f.a[i][w];                              \
      }                                                                                                               \
  }
#define LOAD_ROWS(side, step)                      \
  UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)   \
    UNROLLED for (int w = 0; w < WORDS_A; ++w) f.a[i][w] = kept[side][step][i][w];
#else
#define ROWS_MEMORY
#define KEEP_ROWS
#define LOAD_ROWS(side, step) load_fragments_a(rows + (side) * SIDE_ROWS + (step) / 2 * (TILE_M * SLICE_ROW), (step) % 2, &f, lane, warp);
#endif

#define CLEAR_SUMS                                   \
  UNROLLED for (int g = 0; g < GROUPS; ++g)          \
    UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)   \
      UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j) \
        UNROLLED for (int r = 0; r < SUMS; ++r) sums[g][i][j][r] = 0.0f;

// products = a side's rows times its columns, of the steps from `first` on.
#define MULTIPLY_SIDE(side, block, products)                                                                                 \
  UNROLLED for (int n = 0; n < AT_ONCE; ++n)                                                                                 \
    UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)                                                                           \
      UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)                                                                         \
        UNROLLED for (int r = 0; r < SUMS; ++r) products[n][i][j][r] = 0.0f;                                                 \
  UNROLLED for (int step = 0; step < STEPS; ++step) {                                                                        \
    LOAD_ROWS(side, step)                                                                                                    \
    UNROLLED for (int n = 0; n < AT_ONCE; ++n) {                                                                             \
      load_fragments_b((block) + (side) * SIDE_COLUMNS + step / 2 * (KEYS * SLICE_ROW) + (first + n) * (16 * SLICE_ROW), step % 2, &f, lane, 0); \
      MULTIPLY(&f, products[n])                                                                                              \
    }                                                                                                                        \
    IN_ORDER                                                                                                                 \
  }

// sums += the weights in `scores` times the columns' rows across.
#define ADD_WEIGHTED(scores, block)                     \
  UNROLLED for (int n = 0; n < AT_ONCE; ++n) {          \
    PUT_WEIGHTS(scores[n], &f, lane)                    \
    UNROLLED for (int g = 0; g < GROUPS; ++g) {         \
      LOAD_VALUES(VALUES_OF(block), first + n, g, &f)   \
      MULTIPLY(&f, sums[g])                             \
    }                                                   \
    IN_ORDER                                            \
  }

// The number of the column that sum r of fragment j of step n is in, and of its row.
#define COLUMN_OF(n, j, r) (column + (first + (n)) * 16 + (j) * FRAGMENT_COLUMNS + SUM_COLUMN(r, lane))
#define ROW_NUMBER(r) ((r) / (SUMS / SUM_ROWS))

// Scaled and masked.
#if HAS_MASK
#define ADD_MASK(score, i, s, at, maskRow, maskColumn, rowCount, columnCount) \
  if (ROW_OF(i, s) < (rowCount) && (at) < (columnCount)) score += mask[(uint)ROW_OF(i, s) * (uint)(maskRow) + (uint)(at) * (uint)(maskColumn)];
#else
#define ADD_MASK(score, i, s, at, maskRow, maskColumn, rowCount, columnCount)
#endif

// Statistic `which` of the columns of this lane's sums, `beyond` beyond the last.
#if STAGES_STATISTICS
#define STATISTICS_OF(block, which) ((__local float *)((block) + SIDES * SIDE_COLUMNS + BLOCK_VALUE_BYTES) + (which) * KEYS)
#define BRING_STATISTICS(to, which, from, first, beyond) \
  if (id < KEYS) STATISTICS_OF(to, which)[id] = (first) + id < p.forward.queries ? (from)[(first) + id] : (beyond);
#define LOAD_STATISTICS(to, block, which, from, beyond)      \
  UNROLLED for (int n = 0; n < AT_ONCE; ++n)                 \
    UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)           \
      UNROLLED for (int c = 0; c < SUM_COLUMNS; ++c)         \
        to[n][j][c] = STATISTICS_OF(block, which)[(first + n) * 16 + j * FRAGMENT_COLUMNS + SUM_COLUMN(c, lane)];
#else
#define BRING_STATISTICS(to, which, from, first, beyond)
#define LOAD_STATISTICS(to, block, which, from, beyond)               \
  UNROLLED for (int n = 0; n < AT_ONCE; ++n)                          \
    UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)                    \
      UNROLLED for (int c = 0; c < SUM_COLUMNS; ++c) {                \
        const int at = COLUMN_OF(n, j, c);                            \
        to[n][j][c] = at < p.forward.queries ? (from)[at] : (beyond); \
      }
#endif

// The softmax of scores whose columns are queries; 0 beyond the last of them.
#define WEIGH_COLUMNS(scores, logarithms)                                                                                        \
  UNROLLED for (int n = 0; n < AT_ONCE; ++n)                                                                                     \
    UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)                                                                               \
      UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j) {                                                                           \
        UNROLLED for (int r = 0; r < SUMS; ++r) {                                                                                \
          float score = scores[n][i][j][r] * p.forward.scale;                                                                    \
          ADD_MASK(score, i, ROW_NUMBER(r), COLUMN_OF(n, j, r), p.forward.maskKey, p.forward.maskQuery, p.forward.keys, p.forward.queries) \
          scores[n][i][j][r] = POWER_OF_2((score - logarithms[n][j][r % SUM_COLUMNS]) * LOG2_E);                                 \
        }                                                                                                                        \
        MASK_IN_ORDER                                                                                                            \
      }
#if HAS_MASK
#define MASK_IN_ORDER IN_ORDER
#else
#define MASK_IN_ORDER
#endif

#endif
