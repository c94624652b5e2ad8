// The inner loops of GEMM and convolution on matrix units: a work-group computes a TILE_M × TILE_N block of a product, TILE_K
// terms at a time, and each of its WARPS_M × WARPS_N warps a WARP_M × WARP_N part of that.
//
// Local memory holds STAGES copies of both operands' blocks, in 16-bit elements, as they lie in global memory:
//
//     an operand along k   rows of TILE_K elements, one a row (column) of the product
//     an operand across k  rows of TILE_M (TILE_N) elements, one a k; ldmatrix transposes it on the way to registers
//
// Rows consist of 16-byte chunks. Chunk c of row r lies at place c ^ (r % 8), or c ^ (r / 2 % 4) in rows of four: the eight rows
// that ldmatrix reads at one c, and the chunks that eight neighbouring work-items copy, lie in 32 different banks.
//
// Fragments are read one step (16 terms) before they are multiplied, so a stage is free, and its next copy queued, when the
// last step of its block begins: STAGES blocks less a step are on their way from global memory while one is multiplied. One
// barrier a block. What lies outside an operand is zero.
//
// Limits of a multiprocessor. OpenCL C has 48 KiB of local memory on NVIDIA, at 128 bytes a cycle; mma.sync does about 2560
// operations a cycle on sm_90 (62 % of the 4096 of wgmma, which OpenCL C cannot say) and 2048 on sm_80.
//
//     block            warps             stages   operations a byte of        registers     work-items
//                                                 local memory  second cache  (limit 255)   that fit at once
//     256 × 128 × 32   8 of 64 × 64      2        23            85            ~250          256 (one group)
//     128 × 128 × 32   4 of 64 × 64      3        21            64            ~250          256 (two groups)
//     128 × 64 × 32    4 of 64 × 32      3        13            43            ~160          384 (three)
//     64 × 64 × 32     4 of 32 × 32      3        11            32            ~100          640 (five)
//
// At 128 bytes a cycle, 20 operations a byte are what sm_90 needs, so warps have to be 64 × 64 where the product is large.
// The second cache gives about 32 bytes a cycle and multiprocessor: 80 operations a byte are needed.
#ifndef GRAFT_GPU_MATRIX_TILE_H
#define GRAFT_GPU_MATRIX_TILE_H
#include "gpu/matrix_unit.h"

// Tunables; MatrixTile (Sources/GraftGraph/Lowering/MatrixTile.swift) sets them.
#ifndef TILE_M
#define TILE_M 128
#endif
#ifndef TILE_N
#define TILE_N 128
#endif
#ifndef TILE_K
#define TILE_K 32
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
#define VECTOR_A 8  // elements a copy of A takes: 8, 4 or 2, of which rows and their parts begin at multiples
#endif
#ifndef VECTOR_B
#define VECTOR_B 8
#endif
#ifndef VECTOR_Y
#define VECTOR_Y 8  // elements a store of y and a load of the residual takes: 8, 4, 2 or 1
#endif
#include "gpu/blocks.h"

#define WARP_M (TILE_M / WARPS_M)
#define WARP_N (TILE_N / WARPS_N)
#define ITEMS (WARPS_M * WARPS_N * LANES)
#define FRAGMENTS_M (WARP_M / 16)
#define FRAGMENTS_N (WARP_N / FRAGMENT_COLUMNS)
#define STEPS_K (TILE_K / 16)
// WMMA's fragments are too large to hold those of two steps.
#define BUFFERS (MATRIX_UNIT == 2 ? 1 : 2)

// Bytes of a row of local memory, and what a row's number adds to a chunk's.
#define ROW_A (2 * (A_ALONG_K ? TILE_K : TILE_M))
#define ROW_B (2 * (B_ALONG_K ? TILE_K : TILE_N))
#define ROW_Y (2 * TILE_N)
#define TURN(row, rowBytes) ((rowBytes) >= 128 ? (row) & 7 : (row) >> 1 & 3)
#define STAGE_A (2 * TILE_M * TILE_K)
#define STAGE_BYTES (2 * (TILE_M + TILE_N) * TILE_K)
// Results leave by way of the stages' memory, in as many passes as that takes; a pass has some of every warp's rows.
#define LOCAL_BYTES (STAGES * STAGE_BYTES)
#define PASSES (TILE_M * ROW_Y <= LOCAL_BYTES ? 1 : TILE_M * ROW_Y <= 2 * LOCAL_BYTES ? 2 : 4)
#define PASS_FRAGMENTS (FRAGMENTS_M / PASSES)
#define PASS_ROWS (PASS_FRAGMENTS * 16)

// How a block's rows are shared in copying: `PARTS` copies a row, `STEP` rows at a time, `COPIES` of them a work-item.
#define PARTS_A (ROW_A / (2 * VECTOR_A))
#define PARTS_B (ROW_B / (2 * VECTOR_B))
#define STEP_A (ITEMS / PARTS_A)
#define STEP_B (ITEMS / PARTS_B)
#define COPIES_A (TILE_M * TILE_K / VECTOR_A / ITEMS)
#define COPIES_B (TILE_N * TILE_K / VECTOR_B / ITEMS)
#if STAGES < 2 || STEPS_K % 2 || WARP_M % 16 || WARP_N % 16
#error "there are at least two stages, an even number of steps, and a warp's part is a multiple of 16 × 16"
#endif
#if ITEMS % PARTS_A || ITEMS % PARTS_B || COPIES_A * VECTOR_A * ITEMS != TILE_M * TILE_K || COPIES_B * VECTOR_B * ITEMS != TILE_N * TILE_K
#error "the blocks do not divide evenly among the work-items"
#endif

// The place of a chunk, in bytes from the operand's start in a stage.
#define PLACE(row, chunk, rowBytes) ((uint)(row) * (rowBytes) + (((uint)(chunk) ^ (uint)TURN(row, rowBytes)) << 4))

#if MATRIX_UNIT != 1 && (!A_ALONG_K || !B_ALONG_K)
#error "this unit reads operands along k"
#endif

// Where lane `lane` of warp `warp` finds its words of the first fragment; on NVIDIA, its row of the four 8 × 8 matrices of the
// first fragment (A), or the first two (B).
static inline uint lane_place_a(int lane, int warp) {
  int first = warp / WARPS_N * WARP_M;
#if MATRIX_UNIT == 2
  return PLACE(first + lane % 16, 0, ROW_A);
#elif MATRIX_UNIT == 3
  return PLACE(first + lane % 16, lane / 32, ROW_A) + lane / 16 % 2 * 8;
#elif A_ALONG_K
  return PLACE(first + lane % 16, lane / 16, ROW_A);
#else
  return PLACE(lane % 8 + lane / 16 * 8, first / 8 + lane / 8 % 2, ROW_A);
#endif
}

static inline uint lane_place_b(int lane, int warp) {
  int first = warp % WARPS_N * WARP_N;
#if MATRIX_UNIT == 2
  return PLACE(first + lane % 16, 0, ROW_B);
#elif MATRIX_UNIT == 3
  return PLACE(first + lane % 16, lane / 32, ROW_B) + lane / 16 % 2 * 8;
#elif B_ALONG_K
  return PLACE(first + lane % 8 + lane / 16 * 8, lane / 8 % 2, ROW_B);
#else
  return PLACE(lane % 16, first / 8 + lane / 16, ROW_B);
#endif
}

// From a first place to that of fragment `i` at step `step`: bits that a chunk's number does not have yet are turned on by ^,
// whatever the row has added.
#if A_ALONG_K
#define NEXT_A(place, i, step) (((place) ^ (uint)(step) * 32) + (uint)(i) * (16 * ROW_A))
#else
#define NEXT_A(place, i, step) (((place) ^ (uint)(i) * 32) + (uint)(step) * (16 * ROW_A))
#endif
#if B_ALONG_K
#define NEXT_B(place, j, step) (((place) ^ (uint)(step) * 32) + (uint)(j) * (16 * ROW_B))
#else
#define NEXT_B(place, j, step) (((place) ^ (uint)(j) * 32) + (uint)(step) * (16 * ROW_B))
#endif

typedef struct {
  uint a[FRAGMENTS_M][WORDS_A], b[FRAGMENTS_N][WORDS_B];
} Fragments;

#if MATRIX_UNIT != 1

static inline void load_words(__local const uchar *from, uint place, uint *to) {
#if MATRIX_UNIT == 2
  uint4 low = *(__local const uint4 *)(from + place), high = *(__local const uint4 *)(from + (place ^ 16));
  to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w, to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
#else
  uint2 words = *(__local const uint2 *)(from + place);
  to[0] = words.x, to[1] = words.y;
#endif
}

static inline void load_fragments(__local const uchar *stage, int step, Fragments *f, int lane, int warp) {
  uint placeA = lane_place_a(lane, warp), placeB = STAGE_A + lane_place_b(lane, warp);
  UNROLLED
  for (int i = 0; i < FRAGMENTS_M; ++i) load_words(stage, NEXT_A(placeA, i, step), f->a[i]);
  UNROLLED
  for (int j = 0; j < FRAGMENTS_N; ++j) load_words(stage, NEXT_B(placeB, j, step), f->b[j]);
}

#elif EMULATED

static inline uint emulated_pair(__local const uchar *stage, uint place, int pair) { return *(__local const uint *)(stage + place + 4 * pair); }
static inline uint emulated_element(__local const uchar *stage, uint place, int at) { return *(__local const ushort *)(stage + place + 2 * at); }

// ldmatrix: register r of lane l from the rows whose places lanes 8 r … 8 r + 7 would give.
#define EMULATED_LOAD(to, stage, place, transposed)                                                                        \
  for (int r = 0; r < 4; ++r) {                                                                                            \
    if (transposed) {                                                                                                      \
      int source = 8 * r + lane % 4 * 2, source1 = source + 1;                                                             \
      uint low = emulated_element(stage, place(source), lane / 4), high = emulated_element(stage, place(source1), lane / 4); \
      to(r) = low | high << 16;                                                                                            \
    } else {                                                                                                               \
      to(r) = emulated_pair(stage, place(8 * r + lane / 4), lane % 4);                                                     \
    }                                                                                                                      \
  }

static inline void load_fragments(__local const uchar *stage, int step, Fragments *f, int lane, int warp) {
  for (int i = 0; i < FRAGMENTS_M; ++i) {
#define PLACE_OF(l) NEXT_A(lane_place_a(l, warp), i, step)
#define TO(r) f->a[i][r]
    EMULATED_LOAD(TO, stage, PLACE_OF, !A_ALONG_K)
#undef PLACE_OF
#undef TO
  }
  for (int j = 0; j < FRAGMENTS_N / 2; ++j) {
#define PLACE_OF(l) STAGE_A + NEXT_B(lane_place_b(l, warp), j, step)
#define TO(r) f->b[2 * j + (r) / 2][(r) % 2]
    EMULATED_LOAD(TO, stage, PLACE_OF, !B_ALONG_K)
#undef PLACE_OF
#undef TO
  }
}

#endif

#if EMULATED

#define EXCHANGE_WORDS (FRAGMENTS_M * WORDS_A + FRAGMENTS_N * WORDS_B)

static inline void put_registers(const Fragments *f, __local uint *exchange) {
  __local uint *mine = exchange + get_local_id(0) * EXCHANGE_WORDS;
  for (int i = 0; i < FRAGMENTS_M; ++i)
    for (int w = 0; w < WORDS_A; ++w) mine[i * WORDS_A + w] = f->a[i][w];
  for (int j = 0; j < FRAGMENTS_N; ++j)
    for (int w = 0; w < WORDS_B; ++w) mine[FRAGMENTS_M * WORDS_A + j * WORDS_B + w] = f->b[j][w];
}

// The unit's multiplication from the registers of the warp's lanes.
static inline void multiply_registers(__local const uint *exchange, float sums[FRAGMENTS_M][FRAGMENTS_N][SUMS], int lane, int warp) {
  __local const uint *theirs = exchange + warp * LANES * EXCHANGE_WORDS;
  for (int i = 0; i < FRAGMENTS_M; ++i)
    for (int j = 0; j < FRAGMENTS_N; ++j)
      for (int r = 0; r < SUMS; ++r) {
        float sum = sums[i][j][r];
        int m = SUM_ROW(r, lane), n = SUM_COLUMN(r, lane);
        for (int pair = 0; pair < 8; ++pair) {
          float a[2], b[2];
          widen_pair(theirs[LANE_OF_A(m, pair, lane) * EXCHANGE_WORDS + i * WORDS_A + WORD_OF_A(m, pair)], a);
          widen_pair(theirs[LANE_OF_B(n, pair, lane) * EXCHANGE_WORDS + FRAGMENTS_M * WORDS_A + j * WORDS_B + WORD_OF_B(n, pair)], b);
          sum = MULTIPLY_ADD(a[0], b[0], sum);
          sum = MULTIPLY_ADD(a[1], b[1], sum);
        }
        sums[i][j][r] = sum;
      }
}

#define EXCHANGE_MEMORY __local uint exchange[ITEMS * EXCHANGE_WORDS];
#define MULTIPLY(f)                             \
  put_registers(f, exchange);                   \
  LOCAL_BARRIER;                                \
  multiply_registers(exchange, sums, lane, warp); \
  LOCAL_BARRIER;

#else

#if MATRIX_UNIT == 1
static inline void load_fragments(uint stage, uint placeA, uint placeB, const int step, Fragments *f) {
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; ++i) load_matrices(stage + NEXT_A(placeA, i, step), f->a[i], !A_ALONG_K);
#pragma unroll
  for (int j = 0; j < FRAGMENTS_N / 2; ++j) {
    uint pair[4];
    load_matrices(stage + STAGE_A + NEXT_B(placeB, j, step), pair, !B_ALONG_K);
    f->b[2 * j][0] = pair[0], f->b[2 * j][1] = pair[1], f->b[2 * j + 1][0] = pair[2], f->b[2 * j + 1][1] = pair[3];
  }
}

#endif

static inline void multiply_fragments(const Fragments *f, float sums[FRAGMENTS_M][FRAGMENTS_N][SUMS]) {
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; ++i) {
#pragma unroll
    // There and back, so that neighbours share a fragment of B.
    for (int n = 0; n < FRAGMENTS_N; ++n) {
      const int j = i % 2 ? FRAGMENTS_N - 1 - n : n;
      multiply_fragment(sums[i][j], f->a[i], f->b[j]);
    }
  }
}

#define EXCHANGE_MEMORY
#define MULTIPLY(f) multiply_fragments(f, sums);

#endif

// What a kernel declares, and where this work-item is.
#define MATRIX_MEMORY                                                  \
  __local uchar tiles[LOCAL_BYTES] __attribute__((aligned(128)));      \
  EXCHANGE_MEMORY
#if EMULATED || MATRIX_UNIT != 1
#define MATRIX_PLACES
#define LOAD_FRAGMENTS(stage, step, f) load_fragments(tiles + (stage), step, f, lane, warp);
#else
#define LOAD_FRAGMENTS(stage, step, f) load_fragments(tilesAddress + (stage), placeA, placeB, step, f);
#define MATRIX_PLACES                                                  \
  const uint tilesAddress = shared_address(tiles);                     \
  const uint placeA = lane_place_a(lane, warp), placeB = lane_place_b(lane, warp);
#endif

// Copies one operand's block at k into `to`, in steps of rows: FROM(i) is where copy i begins, INSIDE(i) whether it lies inside.
#define COPY_BLOCK(to, first, COPIES, STEP, ROW, VECTOR, FROM, INSIDE)                                              \
  UNROLLED for (int i = 0; i < COPIES; ++i)                                                                         \
      copy_async(tiles + (to) + (((first) ^ ((uint)TURN(i * STEP, ROW) << 4)) + (uint)i * (STEP * ROW)), FROM(i), INSIDE(i), VECTOR);

// Where a work-item's first copy goes: row id / PARTS, VECTOR elements at id % PARTS.
#define FIRST_COPY(id, PARTS, ROW, VECTOR) \
  (PLACE((id) / PARTS, (id) % PARTS * VECTOR / 8, ROW) + (uint)((id) % PARTS * VECTOR % 8) * 2)

// The loop over `blocks` blocks of k. COPY(stage) queues the copies of the next block and moves on; it is called for one block
// more than there are, which is all zeros and only ever read. Every work-item takes the same way through the barriers.
#define MATRIX_LOOP(blocks, COPY)                                                       \
  {                                                                                     \
    Fragments fragments[BUFFERS];                                                       \
    int queued = 0, from = 0;                                                           \
    for (; queued < STAGES; ++queued) {                                                 \
      if (queued <= (blocks)) { COPY(queued * STAGE_BYTES) }                            \
      COPY_COMMIT                                                                       \
    }                                                                                   \
    COPY_WAIT(STAGES - 1)                                                               \
    LOCAL_BARRIER;                                                                      \
    if (BUFFERS > 1) { LOAD_FRAGMENTS(0, 0, fragments) }                                \
    for (int block = 0; block < (blocks); ++block, ++queued) {                          \
      UNROLLED for (int step = 0; step < STEPS_K; ++step) {                             \
        if (BUFFERS == 1) { LOAD_FRAGMENTS(from, step, fragments) }                     \
        if (step == STEPS_K - 1) {                                                      \
          COPY_WAIT(STAGES - 2)                                                         \
          LOCAL_BARRIER;                                                                \
          int to = from;                                                                \
          from = from == (STAGES - 1) * STAGE_BYTES ? 0 : from + STAGE_BYTES;           \
          if (BUFFERS > 1) { LOAD_FRAGMENTS(from, 0, fragments + (step + 1) % BUFFERS) } \
          if (queued <= (blocks)) { COPY(to) }                                          \
          COPY_COMMIT                                                                   \
        } else if (BUFFERS > 1) {                                                       \
          LOAD_FRAGMENTS(from, step + 1, fragments + (step + 1) % BUFFERS)              \
        }                                                                               \
        MULTIPLY(fragments + step % BUFFERS)                                            \
      }                                                                                 \
    }                                                                                   \
    COPY_WAIT(0)                                                                        \
    LOCAL_BARRIER;                                                                      \
  }

#define SUMS_ZERO                                                     \
  float sums[FRAGMENTS_M][FRAGMENTS_N][SUMS];                         \
  UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)                      \
    UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)                    \
      UNROLLED for (int r = 0; r < SUMS; ++r) sums[i][j][r] = 0.0f;

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
      int row = firstRow + i * 16 + SUM_ROW(r, lane);
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

// A chunk of 8 elements of a row, and its part inside `columns`.
static inline void load_chunk(__global const element *from, int count, uint *chunk) {
#if VECTOR_Y == 8
  uint4 v = *(__global const uint4 *)from;
  chunk[0] = v.x, chunk[1] = v.y, chunk[2] = v.z, chunk[3] = v.w;
#elif VECTOR_Y >= 2
#pragma unroll
  for (int e = 0; e < 4; ++e) chunk[e] = 2 * e < count ? *(__global const uint *)(from + 2 * e) : 0;
#else
#pragma unroll
  for (int e = 0; e < 4; ++e)
    chunk[e] = (2 * e < count ? (uint)from[2 * e] : 0) | (2 * e + 1 < count ? (uint)from[2 * e + 1] : 0) << 16;
#endif
}

static inline void store_chunk(const uint *chunk, __global element *to, int count) {
#if VECTOR_Y == 8
  *(__global uint4 *)to = (uint4)(chunk[0], chunk[1], chunk[2], chunk[3]);
#elif VECTOR_Y >= 2
#pragma unroll
  for (int e = 0; e < 4; ++e)
    if (2 * e < count) *(__global uint *)(to + 2 * e) = chunk[e];
#else
#pragma unroll
  for (int e = 0; e < 8; ++e)
    if (e < count) to[e] = (element)(chunk[e / 2] >> e % 2 * 16);
#endif
}

#define CHUNKS_Y (TILE_N / 8)
#define STEP_Y (ITEMS / CHUNKS_Y)

// y[row, column] = activation(sums + bias[column] + residual[row, column]) for what lies inside rows × columns. Fragments are
// small pieces of rows, so results, and the residual before them, go by way of local memory: global memory sees whole chunks,
// neighbours beside each other. Pointers are at row 0 and column 0.
// Inlined always: with a long activation compilers would rather call it, with all sums in memory.
static inline __attribute__((always_inline)) void store_block(
    __local uchar *tiles, float sums[FRAGMENTS_M][FRAGMENTS_N][SUMS], int lane, int warp, int firstRow, int rows, int firstColumn, int columns,
    __global const float *bias, __global const element *residual, int ldr, __global element *y, int ldy, const GraftEpilogue epilogue) {
  const Activation activation = activation_of(epilogue);
  const int id = get_local_id(0), ownRow = id / CHUNKS_Y, ownColumn = firstColumn + id % CHUNKS_Y * 8;
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
          __local uchar *at = tiles + PLACE(warpRow + i * 16 + SUM_ROW(r, lane), column / 8, ROW_Y) + column % 8 * 2;
#if SUM_PAIRS
          float old[2] = {0.0f, 0.0f};
          if (epilogue.hasResidual) unit_widen(*(__local const uint *)at, old);
          *(__local uint *)at = unit_narrow(activate(sum[0] + more[0] + old[0], activation), activate(sum[1] + more[1] + old[1], activation));
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
