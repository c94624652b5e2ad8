// The inner loops of GEMM and convolution on matrix units: a work-group computes a TILE_M × TILE_N block of a product, TILE_K
// terms at a time, and each of its WARPS_M × WARPS_N warps a WARP_M × WARP_N part of that.
//
// Local memory holds STAGES copies of both operands' blocks, as they lie in global memory:
//
//     an operand along k   rows of TILE_K elements, one a row (column) of the product
//     an operand across k  rows of TILE_M (TILE_N) elements, one a k; it is transposed on the way to registers
//
// Rows consist of 16-byte chunks. Chunk c of row r lies at place c ^ (r % 8), or c ^ (r / 2 % 4) in rows of four: the eight rows
// that ldmatrix reads at one c, and the chunks that eight neighbouring work-items copy, lie in 32 different banks. Rows of numbers of
// 32 bits across k turn by 2 (r % 4): a warp reads eight neighbours of four rows.
//
// Fragments are read one step (32 bytes of k) before they are multiplied, so a stage is free, and its next copy queued, when the
// last step of its block begins: STAGES blocks less a step are on their way from global memory while one is multiplied. One
// barrier a block. What lies outside an operand is zero.
//
// Limits of a multiprocessor. OpenCL C has 47 KiB of local memory on NVIDIA, at 128 bytes a cycle; mma.sync does about 2560
// operations a cycle on sm_90 (62 % of wgmma's 4096) and 2048 on sm_80. What a warp group multiplies (matrix_group.h) is read by the
// unit itself: 64 rows of A and all columns of B for 64 rows of the product.
//
//     block, 16 bits   warps             stages   operations a byte of        registers     work-items
//                                                 local memory  second cache  (limit 255)   that fit at once
//     128 × 128 × 32   4 of 64 × 64      2        21            64            ~250          256 (two groups)
//     128 × 64 × 32    4 of 64 × 32      3        13            43            ~160          384 (three)
//     64 × 64 × 32     4 of 32 × 32      3        11            32            ~100          640 (five)
//
// At 128 bytes a cycle, 20 operations a byte are what sm_90 needs, so warps have to be 64 × 64 where the product is large.
// The second cache gives about 32 bytes a cycle and multiprocessor: 80 operations a byte are needed. In tf32 a block has half the
// terms in as many bytes, at half the rate.
#ifndef GRAFT_GPU_MATRIX_TILE_H
#define GRAFT_GPU_MATRIX_TILE_H
#include "gpu/matrix_multiply.h"

#if STAGES < 2 || STEPS_K % 2 || WARP_M % 16 || WARP_N % 16
#error "there are at least two stages, an even number of steps, and a warp's part is a multiple of 16 × 16"
#endif
#if ITEMS % PARTS_A || ITEMS % PARTS_B || COPIES_A * VECTOR_A * ITEMS != TILE_M * TILE_K || COPIES_B * VECTOR_B * ITEMS != TILE_N * TILE_K
#error "the blocks do not divide evenly among the work-items"
#endif
#if ELEMENT_BYTES == 4 && STEPS_K != 2
#error "rows of 32-bit numbers along k have 64 bytes"
#endif

// What a kernel declares, and where this work-item is. What turns a warp group's chunks is their address.
#define TILES_ALIGNMENT (MATRIX_UNIT == 7 ? 1024 : 128)
#define MATRIX_MEMORY                                                  \
  __local uchar tiles[LOCAL_BYTES] __attribute__((aligned(TILES_ALIGNMENT)));      \
  EXCHANGE_MEMORY
#if MATRIX_UNIT == 7
#include "gpu/matrix_group.h"
#endif
#ifndef MATRIX_PLACES
#define MATRIX_PLACES
#endif
#ifndef LOAD_FRAGMENTS
#define LOAD_FRAGMENTS(stage, step, f) load_fragments(tiles + (stage), step, f, lane, warp);
#endif

// Copies one operand's block at k into `to`, in steps of rows: FROM(i) is where copy i begins, INSIDE(i) whether it lies inside.
#define COPY_BLOCK(to, first, COPIES, STEP, PITCH, VECTOR, FROM, INSIDE) \
  UNROLLED for (int i = 0; i < COPIES; ++i) copy_async(COPY_PLACE(to, first, i, STEP, PITCH), FROM(i), INSIDE(i), VECTOR);

// Where copy i of a work-item goes whose first one goes to `first`.
#define COPY_PLACE(to, first, i, STEP, PITCH) \
  (tiles + (to) + (((first) ^ ((uint)TURN((i) * STEP, PITCH) << 4)) + (uint)(i) * (STEP * PITCH)))

// Where a work-item's first copy goes: row id / PARTS, VECTOR elements at id % PARTS; of several panels, the one they lie in.
#define FIRST_COPY(id, PARTS, PITCH, VECTOR)                                                                 \
  (PLACE((id) / PARTS, (id) % PARTS * VECTOR / CHUNK % (PITCH / 16), PITCH) +                                \
   (uint)((id) % PARTS * VECTOR / CHUNK / (PITCH / 16)) * (TILE_K * PITCH) + (uint)((id) % PARTS * VECTOR % CHUNK) * ELEMENT_BYTES)

#if MATRIX_UNIT != 7

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
        MULTIPLY(fragments + step % BUFFERS, sums)                                      \
      }                                                                                 \
    }                                                                                   \
    COPY_WAIT(0)                                                                        \
    LOCAL_BARRIER;                                                                      \
  }

#endif

#define SUMS_ZERO                                                     \
  float sums[FRAGMENTS_M][FRAGMENTS_N][SUMS];                         \
  UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)                      \
    UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)                    \
      UNROLLED for (int r = 0; r < SUMS; ++r) sums[i][j][r] = 0.0f;

#include "gpu/matrix_store.h"

#endif
