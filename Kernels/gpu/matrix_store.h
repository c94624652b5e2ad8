// How a block's sums leave (matrix_tile.h): as shares of a split, or as results by way of local memory.
#ifndef GRAFT_GPU_MATRIX_STORE_H
#define GRAFT_GPU_MATRIX_STORE_H
#include "gpu/matrix_chunk.h"

// Results leave by way of the stages' memory, in as many passes as that takes; a pass has some of every warp's rows.
#define PASSES (TILE_M * ROW_Y <= LOCAL_BYTES ? 1 : TILE_M * ROW_Y <= 2 * LOCAL_BYTES ? 2 : 4)
#define PASS_FRAGMENTS (FRAGMENTS_M / PASSES)
#define PASS_ROWS (PASS_FRAGMENTS * FRAGMENT_ROWS)

// Sums that are stored together.
#define SUM_STEP (1 + SUM_PAIRS)

#if PARTIAL

// Shares of a split: sums as they are, float32.
static inline void store_partial(
    float sums[FRAGMENTS_M][FRAGMENTS_N][SUMS], int lane, int warp, int firstRow, int rows, int firstColumn, int columns, __global float *y, int ldy) {
  firstRow += warp / WARPS_N * WARP_M;
  firstColumn += warp % WARPS_N * WARP_N;
  UNROLLED
  for (int i = 0; i < FRAGMENTS_M; ++i) {
    UNROLLED
    for (int r = 0; r < SUMS; r += SUM_STEP) {
      int row = firstRow + i * FRAGMENT_ROWS + SUM_ROW(r, lane);
      if (row < rows) {
        __global float *line = y + (uint)row * (uint)ldy;
        UNROLLED
        for (int j = 0; j < FRAGMENTS_N; ++j) {
          int column = firstColumn + j * FRAGMENT_COLUMNS + SUM_COLUMN(r, lane);
#if SUM_PAIRS && VECTOR_Y > 1
          if (column < columns) *(__global float2 *)(line + column) = (float2)(sums[i][j][r], sums[i][j][r + 1]);
#else
          if (column < columns) line[column] = sums[i][j][r];
#if SUM_PAIRS
          if (column + 1 < columns) line[column + 1] = sums[i][j][r + 1];
#endif
#endif
        }
      }
    }
  }
}
#define STORE_BLOCK(firstRow, rows, firstColumn, columns, bias, residual, ldr, y, ldy, epilogue) \
  store_partial(sums, lane, warp, firstRow, rows, firstColumn, columns, y, ldy);

#else

#define CHUNKS_Y (TILE_N / CHUNK)
#define STEP_Y (ITEMS / CHUNKS_Y)

// y[row, column] = activation(sums + bias[column] + residual[row, column]) for what lies inside rows × columns. Fragments are
// small pieces of rows, so results, and the residual before them, go by way of local memory: global memory sees whole chunks,
// neighbours beside each other. Pointers are at row 0 and column 0.
// Inlined always: with a long activation compilers would rather call it, with all sums in memory.
static inline __attribute__((always_inline)) void store_block(
    __local uchar *tiles, float sums[FRAGMENTS_M][FRAGMENTS_N][SUMS], int lane, int warp, int firstRow, int rows, int firstColumn, int columns,
    __global const float *bias, __global const element *residual, int ldr, __global element *y, int ldy, const GraftEpilogue epilogue) {
  const Activation activation = activation_of(epilogue);
  const int id = get_local_id(0), ownRow = id / CHUNKS_Y, ownColumn = firstColumn + id % CHUNKS_Y * CHUNK;
  const int warpRow = warp / WARPS_N * PASS_ROWS, warpColumn = warp % WARPS_N * WARP_N;
  float added[FRAGMENTS_N][SUM_COLUMNS];
  UNROLLED
  for (int j = 0; j < FRAGMENTS_N; ++j) {
    UNROLLED
    for (int r = 0; r < SUM_COLUMNS; ++r) {
      int column = firstColumn + warpColumn + j * FRAGMENT_COLUMNS + SUM_COLUMN(r, lane);
      added[j][r] = epilogue.hasBias && column < columns ? bias[column] : 0.0f;
    }
  }
  UNROLLED
  for (int pass = 0; pass < PASSES; ++pass) {
    // Rows of the pass: PASS_ROWS of each warp's.
#define ROW_OF(r) (firstRow + (r) / PASS_ROWS * WARP_M + pass * PASS_ROWS + (r) % PASS_ROWS)
    if (epilogue.hasResidual) {
      for (int r = ownRow; r < WARPS_M * PASS_ROWS; r += STEP_Y) {
        uint chunk[4] = {0, 0, 0, 0};
        if (ROW_OF(r) < rows && ownColumn < columns)
          load_chunk(residual + ((uint)ROW_OF(r) * (uint)ldr + (uint)ownColumn), columns - ownColumn, chunk);
        *(__local uint4 *)(tiles + PLACE(r, id % CHUNKS_Y, ROW_Y)) = (uint4)(chunk[0], chunk[1], chunk[2], chunk[3]);
      }
      LOCAL_BARRIER;
    }
    UNROLLED
    for (int i = 0; i < PASS_FRAGMENTS; ++i) {
      UNROLLED
      for (int j = 0; j < FRAGMENTS_N; ++j) {
        UNROLLED
        for (int r = 0; r < SUMS; r += SUM_STEP) {
          const float *sum = sums[pass * PASS_FRAGMENTS + i][j] + r, *more = added[j] + r % SUM_COLUMNS;
          int column = warpColumn + j * FRAGMENT_COLUMNS + SUM_COLUMN(r, lane);
          __local uchar *at = tiles + PLACE(warpRow + i * FRAGMENT_ROWS + SUM_ROW(r, lane), column / CHUNK, ROW_Y) + column % CHUNK * ELEMENT_BYTES;
#if SUM_PAIRS
          float old[2] = {0.0f, 0.0f};
          if (epilogue.hasResidual) read_pair(at, old);
          write_pair(activate(sum[0] + more[0] + old[0], activation), activate(sum[1] + more[1] + old[1], activation), at);
#else
          float old = epilogue.hasResidual ? unit_widen_one(*(__local const element *)at) : 0.0f;
          *(__local element *)at = (element)unit_narrow_one(activate(sum[0] + more[0] + old, activation));
#endif
        }
      }
    }
    LOCAL_BARRIER;
    if (ownColumn < columns) {
      for (int r = ownRow; r < WARPS_M * PASS_ROWS; r += STEP_Y) {
        if (ROW_OF(r) < rows) {
          uint4 v = *(__local const uint4 *)(tiles + PLACE(r, id % CHUNKS_Y, ROW_Y));
          uint chunk[4] = {v.x, v.y, v.z, v.w};
          store_chunk(chunk, y + ((uint)ROW_OF(r) * (uint)ldy + (uint)ownColumn), columns - ownColumn);
        }
      }
    }
    if (pass + 1 < PASSES) LOCAL_BARRIER;
  }
}
#define STORE_BLOCK(firstRow, rows, firstColumn, columns, bias, residual, ldr, y, ldy, epilogue) \
  store_block(tiles, sums, lane, warp, firstRow, rows, firstColumn, columns, bias, residual, ldr, y, ldy, epilogue);

#endif
#endif
