// How a work-group's block of a product lies in local memory, and who copies what: the tunables, and what follows from them.
#ifndef GRAFT_GPU_MATRIX_BLOCK_H
#define GRAFT_GPU_MATRIX_BLOCK_H
// Tunables; MatrixTile (Sources/GraftGraph/Lowering/MatrixTile.swift) sets them.
#ifndef TILE_M
#define TILE_M 128
#endif
#ifndef TILE_N
#define TILE_N 128
#endif
#ifndef TILE_K
#define TILE_K (2 * STEP_TERMS)
#endif
#ifndef WARPS_M
#define WARPS_M 2
#endif
#ifndef WARPS_N
#define WARPS_N 2
#endif
#ifndef STAGES
#define STAGES 3
#endif
#ifndef A_ALONG_K
#define A_ALONG_K 1
#endif
#ifndef B_ALONG_K
#define B_ALONG_K 1
#endif
#ifndef VECTOR_A
#define VECTOR_A CHUNK  // elements a copy of A takes, 16, 8 or 4 bytes, of which rows and their parts begin at multiples
#endif
#ifndef VECTOR_B
#define VECTOR_B CHUNK
#endif
#ifndef VECTOR_Y
#define VECTOR_Y CHUNK  // elements a store of y and a load of the residual takes: a chunk, 2 or 1
#endif

#include "gpu/blocks.h"

#define WARP_M (TILE_M / WARPS_M)
#define WARP_N (TILE_N / WARPS_N)
#define ITEMS (WARPS_M * WARPS_N * LANES)
#define FRAGMENTS_M (WARP_M / FRAGMENT_ROWS)
#define FRAGMENTS_N (WARP_N / FRAGMENT_COLUMNS)
#define STEPS_K (TILE_K / STEP_TERMS)

// Bytes of a row of local memory, and what a row's number adds to a chunk's. Numbers of 32 bits are read across k, and results
// written, 32 bytes of four rows at a time.
#define ROW_A (ELEMENT_BYTES * (A_ALONG_K ? TILE_K : TILE_M))
#define ROW_B (ELEMENT_BYTES * (B_ALONG_K ? TILE_K : TILE_N))
#define ROW_Y (ELEMENT_BYTES * TILE_N)
// Bytes from a row to the next: a warp group reads rows across k in panels of 128 bytes (matrix_group.h).
#define PITCH_A (MATRIX_UNIT == 7 && !A_ALONG_K ? 128 : ROW_A)
#define PITCH_B (MATRIX_UNIT == 7 && !B_ALONG_K ? 128 : ROW_B)
#if ELEMENT_BYTES == 4
#define TURN(row, rowBytes) ((rowBytes) >= 128 ? ((row) & 3) << 1 : (row) >> 1 & 3)
#else
#define TURN(row, rowBytes) ((rowBytes) >= 128 ? (row) & 7 : (row) >> 1 & 3)
#endif
#define STAGE_A (ELEMENT_BYTES * TILE_M * TILE_K)
#define STAGE_BYTES (ELEMENT_BYTES * (TILE_M + TILE_N) * TILE_K)
#define LOCAL_BYTES (STAGES * STAGE_BYTES)

// How a block's rows are shared in copying: `PARTS` copies a row, `STEP` rows at a time, `COPIES` of them a work-item.
#define PARTS_A (ROW_A / (ELEMENT_BYTES * VECTOR_A))
#define PARTS_B (ROW_B / (ELEMENT_BYTES * VECTOR_B))
#define STEP_A (ITEMS / PARTS_A)
#define STEP_B (ITEMS / PARTS_B)
#define COPIES_A (TILE_M * TILE_K / VECTOR_A / ITEMS)
#define COPIES_B (TILE_N * TILE_K / VECTOR_B / ITEMS)

// The place of a chunk, in bytes from the operand's start in a stage.
#define PLACE(row, chunk, rowBytes) ((uint)(row) * (rowBytes) + (((uint)(chunk) ^ (uint)TURN(row, rowBytes)) << 4))

// From a first place to that of fragment `i` at step `step`: bits that a chunk's number does not have yet are turned on by ^,
// whatever the row has added. `extent`: rows or columns of the product that a fragment has.
#define NEXT_ALONG(place, i, step, extent, rowBytes) (((place) ^ (uint)(step) * STEP_BYTES) + (uint)(i) * ((extent) * (rowBytes)))
#define NEXT_ACROSS(place, i, step, extent, rowBytes) \
  (((place) ^ (uint)(i) * ((extent) * ELEMENT_BYTES)) + (uint)(step) * (STEP_TERMS * (rowBytes)))

// A warp's part of both operands for one step.
#define FRAGMENTS_TYPE                                       \
  typedef struct {                                           \
    uint a[FRAGMENTS_M][WORDS_A], b[FRAGMENTS_N][WORDS_B]; \
  } Fragments;

#endif
