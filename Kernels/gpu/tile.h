// The inner loops of GEMM and convolution on GPUs: a work-group computes a TILE_M × TILE_N block of a product, TILE_K terms
// at a time, from copies of both operands in local memory.
//
//            ┌──── TILE_N ────┐            local A: a[k PITCH_A + row]       k < TILE_K, row    < TILE_M
//     TILE_K │  B             │            local B: b[k PITCH_B + column]                column < TILE_N
//            └────────────────┘            pitches are padded so that storing a transposed block hits other banks
//     ┌────┐ ┌────────────────┐
//     │ A  │ │  sums          │ TILE_M     two buffers of each: while one is multiplied, the next blocks are on their way
//     └────┘ └────────────────┘            to registers and then into the other; one barrier a block
//
// Work-item (tx, ty) of ITEMS_N × ITEMS_M owns ITEM_M × ITEM_N sums, rows in chunks of CHUNK_M = min(ITEM_M, 4):
//     row(i)    = (i / CHUNK_M) ITEMS_M CHUNK_M + ty CHUNK_M + i % CHUNK_M       and columns alike with tx,
// so that neighbours read neighbouring float4 of local memory. 32 neighbouring work-items form an 8 × 4 patch: they read
// 8 + 4 chunks a step where a row of 32 would read 32 + 1.
//
// Offsets within a tensor are 32 bits wide: a plan refuses tensors of 2^31 elements and more.
//
// Operands are widened on their way into local memory, so the sums are those of float32 whatever the format (element.h).
//
// Per step of k a work-item reads ITEM_M + ITEM_N floats for ITEM_M ITEM_N multiply-adds; every element of A is read from
// global memory once a block column, every element of B once a block row.
// After: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008); Volkov and Demmel, "Benchmarking
// GPUs to Tune Dense Linear Algebra" (2008).
#ifndef GRAFT_GPU_TILE_H
#define GRAFT_GPU_TILE_H
#include "gpu/activation.h"

// Tunables; GEMMTile (Sources/GraftGraph/Lowering/GEMMTile.swift) sets them.
#ifndef TILE_M
#define TILE_M 64  // rows of a work-group's block
#endif
#ifndef TILE_N
#define TILE_N 64  // columns
#endif
#ifndef TILE_K
#define TILE_K 16  // terms between two barriers
#endif
#ifndef ITEM_M
#define ITEM_M 4   // rows of a work-item's sums: 1, 2 or a multiple of 4
#endif
#ifndef ITEM_N
#define ITEM_N 4   // columns
#endif
#ifndef PAD
#define PAD 4      // floats after each row of local memory; a multiple of 4 keeps rows aligned
#endif
#ifndef UNROLL
#define UNROLL 2   // steps of k unrolled: more lets compilers load ahead until registers run out
#endif
#ifndef VECTOR_A
#define VECTOR_A 1  // elements a load of A takes: 4 where rows are aligned and whole
#endif
#ifndef VECTOR_B
#define VECTOR_B 1
#endif
#ifndef VECTOR_Y
#define VECTOR_Y 1  // elements a store of y, and a load of bias and residual, takes
#endif
#include "gpu/blocks.h"

#define ITEMS_M (TILE_M / ITEM_M)
#define ITEMS_N (TILE_N / ITEM_N)
#define ITEMS (ITEMS_M * ITEMS_N)
#define PITCH_A (TILE_M + PAD)
#define PITCH_B (TILE_N + PAD)
#define LOCAL_A (2 * TILE_K * PITCH_A)
#define LOCAL_B (2 * TILE_K * PITCH_B)
#define CHUNK_M (ITEM_M < 4 ? ITEM_M : 4)
#define CHUNK_N (ITEM_N < 4 ? ITEM_N : 4)
// Floats a work-item carries from global to local memory, a block.
#define CARRY_A (TILE_M * TILE_K / ITEMS)
#define CARRY_B (TILE_N * TILE_K / ITEMS)
// The most loads either takes, and the most floats a load takes: bounds of loops that hold in a function that is compiled before
// it is inlined. With the bound of its own operand there, a loop is unrolled in part, for good, and what it indexes has to lie in
// memory instead of registers.
#define LOADS_A (CARRY_A / VECTOR_A)
#define LOADS_B (CARRY_B / VECTOR_B)
#define LOADS_MOST (LOADS_A > LOADS_B ? LOADS_A : LOADS_B)
#define VECTOR_MOST (VECTOR_A > VECTOR_B ? VECTOR_A : VECTOR_B)
#if TILE_M * TILE_K % (ITEMS * VECTOR_A) || TILE_N * TILE_K % (ITEMS * VECTOR_B) || ITEMS % TILE_K || ITEM_N < VECTOR_Y
#error "the blocks do not divide evenly among the work-items"
#endif

#if ITEMS_N % 8 == 0 && ITEMS_M % 4 == 0
#define TILE_X(id) ((id) % 8 + (id) / 32 % (ITEMS_N / 8) * 8)
#define TILE_Y(id) ((id) / 8 % 4 + (id) / 32 / (ITEMS_N / 8) * 4)
#else
#define TILE_X(id) ((id) % ITEMS_N)
#define TILE_Y(id) ((id) / ITEMS_N)
#endif

static inline void fetch_vector(__global const element *from, float *to, const int vector, bool inside) {
  if (inside) {
    load_elements(from, to, vector);
  } else {
    for (int e = 0; e < vector; ++e) to[e] = 0.0f;
  }
}

// A block of a matrix whose rows (`extent` of them, ld apart) run along k, and one whose rows run along the block's other
// side (`extent` wide, one row a k). What lies outside is zero.
static inline void fetch_along_k(__global const element *from, int ld, int first, int end, int k, int endK, float *carry, const int extent, const int vector) {
  const int steps = TILE_K / vector;
#pragma unroll
  for (int i = 0; i < LOADS_MOST; ++i) {
    if (i >= extent * steps / ITEMS) continue;
    int t = get_local_id(0) + i * ITEMS, row = first + t / steps, at = k + t % steps * vector;
    fetch_vector(from + ((uint)row * (uint)ld + (uint)at), carry + i * vector, vector, row < end && at < endK);
  }
}

static inline void fetch_across_k(__global const element *from, int ld, int first, int end, int k, int endK, float *carry, const int extent, const int vector) {
  const int steps = extent / vector;
#pragma unroll
  for (int i = 0; i < LOADS_MOST; ++i) {
    if (i >= TILE_K * steps / ITEMS) continue;
    int t = get_local_id(0) + i * ITEMS, at = k + t / steps, column = first + t % steps * vector;
    fetch_vector(from + ((uint)at * (uint)ld + (uint)column), carry + i * vector, vector, column < end && at < endK);
  }
}

// What was fetched, into local memory; along k it is transposed on the way.
static inline void put_along_k(const float *carry, __local float *to, const int extent, const int vector) {
  const int steps = TILE_K / vector;
#pragma unroll
  for (int i = 0; i < LOADS_MOST; ++i) {
    if (i >= extent * steps / ITEMS) continue;
    int t = get_local_id(0) + i * ITEMS;
#pragma unroll
    for (int e = 0; e < VECTOR_MOST; ++e) {
      if (e < vector) to[(t % steps * vector + e) * (extent + PAD) + t / steps] = carry[i * vector + e];
    }
  }
}

static inline void put_across_k(const float *carry, __local float *to, const int extent, const int vector) {
  const int steps = extent / vector;
#pragma unroll
  for (int i = 0; i < LOADS_MOST; ++i) {
    if (i >= TILE_K * steps / ITEMS) continue;
    int t = get_local_id(0) + i * ITEMS;
    __local float *at = to + t / steps * (extent + PAD) + t % steps * vector;
    if (vector == 4) *(__local float4 *)at = (float4)(carry[i * 4], carry[i * 4 + 1], carry[i * 4 + 2], carry[i * 4 + 3]);
    else *at = carry[i];
  }
}

static inline void load_fragment(__local const float *from, float *to, const int count, const int distance) {
#pragma unroll
  for (int c = 0; c < (count + 3) / 4; ++c) {
    if (count >= 4) {
      float4 v = *(__local const float4 *)(from + c * distance);
      to[c * 4] = v.x, to[c * 4 + 1] = v.y, to[c * 4 + 2] = v.z, to[c * 4 + 3] = v.w;
    } else {
      for (int e = 0; e < count; ++e) to[e] = from[e];
    }
  }
}

// sums[i][j] += a[k][row(i)] b[k][column(j)] over the block's k.
static inline void multiply_blocks(__local const float *a, __local const float *b, float sums[ITEM_M][ITEM_N]) {
  a += TILE_Y(get_local_id(0)) * CHUNK_M;
  b += TILE_X(get_local_id(0)) * CHUNK_N;
#pragma unroll UNROLL
  for (int k = 0; k < TILE_K; ++k) {
    float left[ITEM_M], right[ITEM_N];
    load_fragment(a + k * PITCH_A, left, ITEM_M, ITEMS_M * CHUNK_M);
    load_fragment(b + k * PITCH_B, right, ITEM_N, ITEMS_N * CHUNK_N);
#pragma unroll
    for (int i = 0; i < ITEM_M; ++i) {
#pragma unroll
      for (int j = 0; j < ITEM_N; ++j) sums[i][j] = MULTIPLY_ADD(left[i], right[j], sums[i][j]);
    }
  }
}

// What a kernel declares: the blocks in local memory; its sums, zero, and what it carries there.
#define TILE_MEMORY                                           \
  __local float localA[LOCAL_A] __attribute__((aligned(16))); \
  __local float localB[LOCAL_B] __attribute__((aligned(16)));
#define TILE_SUMS                                                                             \
  float sums[ITEM_M][ITEM_N];                                                                 \
  _Pragma("unroll") for (int i = 0; i < ITEM_M; ++i)                                          \
      _Pragma("unroll") for (int j = 0; j < ITEM_N; ++j) sums[i][j] = 0.0f;                   \
  float carryA[CARRY_A], carryB[CARRY_B];

// The loop over k from `first` to `end`. FETCH(k) fills the carries, PUT(a, b) stores them; every work-item of the group
// takes the same way through the barriers.
#define TILE_LOOP(localA, localB, first, end, FETCH, PUT)                                       \
  FETCH(first)                                                                                  \
  PUT(localA, localB)                                                                           \
  barrier(CLK_LOCAL_MEM_FENCE);                                                                 \
  for (int k = first, buffer = 0; k < end; k += TILE_K) {                                       \
    bool more = k + TILE_K < end;                                                               \
    if (more) { FETCH(k + TILE_K) }                                                             \
    multiply_blocks(localA + buffer * TILE_K * PITCH_A, localB + buffer * TILE_K * PITCH_B, sums); \
    buffer ^= 1;                                                                                \
    if (more) { PUT(localA + buffer * TILE_K * PITCH_A, localB + buffer * TILE_K * PITCH_B) }   \
    barrier(CLK_LOCAL_MEM_FENCE);                                                               \
  }

// y[row, column] = activation(sums + bias[column] + residual[row, column]) for what lies inside rows × columns. Pointers
// are at row 0 and column 0. Inlined always: with a long activation compilers would rather call it, with all sums in memory.
static inline __attribute__((always_inline)) void store_block(
    float sums[ITEM_M][ITEM_N], int firstRow, int rows, int firstColumn, int columns, __global const float *bias,
    __global const element *residual, int ldr, __global sum_element *y, int ldy, const GraftEpilogue epilogue) {
  const Activation activation = activation_of(epilogue);
  firstRow += TILE_Y(get_local_id(0)) * CHUNK_M;
  firstColumn += TILE_X(get_local_id(0)) * CHUNK_N;
#pragma unroll
  for (int j = 0; j < ITEM_N; j += VECTOR_Y) {
    int column = firstColumn + j / CHUNK_N * (ITEMS_N * CHUNK_N) + j % CHUNK_N;
    if (column < columns) {
      float added[VECTOR_Y];
      for (int e = 0; e < VECTOR_Y; ++e) added[e] = 0.0f;
      if (epilogue.hasBias) load_floats(bias + column, added, VECTOR_Y);
#pragma unroll
      for (int i = 0; i < ITEM_M; ++i) {
        int row = firstRow + i / CHUNK_M * (ITEMS_M * CHUNK_M) + i % CHUNK_M;
        if (row < rows) {
          float value[VECTOR_Y], old[VECTOR_Y];
          for (int e = 0; e < VECTOR_Y; ++e) old[e] = 0.0f;
          if (epilogue.hasResidual) load_elements(residual + ((uint)row * (uint)ldr + (uint)column), old, VECTOR_Y);
#pragma unroll
          for (int e = 0; e < VECTOR_Y; ++e) value[e] = activate(sums[i][j + e] + added[e] + old[e], activation);
          store_sums(value, y + ((uint)row * (uint)ldy + (uint)column), VECTOR_Y);
        }
      }
    }
  }
}

#endif
