// NVIDIA's unit from sm_90 on, by warp groups (matrix_unit.h): wgmma.mma_async, with which four warps multiply 64 rows of A by all
// columns of the block, both out of local memory. No fragments are read into registers, and the multiplication of one block of k is
// under way while the next ones are copied.
//
// Operands in local memory lie as the unit's descriptors say (PTX ISA, "Asynchronous Warpgroup Level Matrix Shared Memory Layout"):
//
//     along k    rows of TILE_K elements, 64 or 128 bytes. Eight of them are an atom, and SBO the bytes from atom to atom.
//     across k   panels of 64 rows (columns) of the product, in each a row of 128 bytes for every k. Eight rows are an atom, SBO the
//                bytes from atom to atom along k, LBO those from panel to panel.
//
// Chunks of 16 bytes are turned as PLACE turns them: in rows of 128 bytes by the address's bits 7 to 9, in rows of 64 by 7 and 8.
//
// A compiler of OpenCL C knows wgmma as little as the target that has it, sm_90a. The instructions are therefore comments of its PTX,
// in lines that begin with //!, and the host makes instructions of them (PTXText.swift): the driver's own binary of a program is
// PTX, which it takes back as well.
#ifndef GRAFT_GPU_MATRIX_GROUP_H
#define GRAFT_GPU_MATRIX_GROUP_H

#if FRAGMENTS_M != 1 || WARPS_N != 1 || TILE_M % 64 || ELEMENT_BYTES != 2
#error "a warp group computes 64 whole rows of a block, of 16-bit numbers"
#endif
#if !B_ALONG_K && TILE_N % 64 || PITCH_A < 64 || PITCH_B < 64
#error "operands across k lie in panels of 64, those along it in rows of 64 or 128 bytes"
#endif

// Bytes from a panel to the next, and what an operand's descriptors share: where its atoms lie, and how they are turned.
#define GROUP_PANEL (TILE_K * 128)
#define GROUP_LAYOUT(alongK, pitch) \
  ((ulong)((alongK) ? 1 : GROUP_PANEL / 16) << 16 | (ulong)(8 * (pitch) / 16) << 32 | (ulong)((pitch) == 128 ? 1 : 2) << 62)
// What a step of k adds to a descriptor's address.
#define GROUP_STEP(alongK) (((alongK) ? STEP_BYTES : STEP_TERMS * 128) / 16)
// Where the rows of a warp's group begin, in bytes from A's place in a stage.
#define GROUP_ROWS(warp) ((uint)((warp) / 4) * (A_ALONG_K ? 64 * PITCH_A : GROUP_PANEL))

#if EMULATED

// The element at (row, term) of the matrix that a descriptor names.
EMULATED_FUNCTION uint group_element(__local const uchar *memory, ulong layout, uint start, bool alongK, int row, int term) {
  uint lbo = (uint)(layout >> 16 & 0x3FFF) << 4, sbo = (uint)(layout >> 32 & 0x3FFF) << 4, chunks = layout >> 62 == 1 ? 8 : 4;
  uint across = (uint)(alongK ? term : row), down = (uint)(alongK ? row : term), width = 8 * chunks;
  uint place = start + across / width * lbo + across % width * 2 + down / 8 * sbo + down % 8 * (16 * chunks);
  place ^= (place >> 7 & (chunks - 1)) << 4;
  return *(__local const ushort *)(memory + place);
}

EMULATED_FUNCTION void multiply_group(__local const uchar *memory, uint a, uint b, float sums[FRAGMENTS_M][FRAGMENTS_N][SUMS], int lane, int warp) {
  for (int step = 0; step < STEPS_K; ++step)
    for (int j = 0; j < FRAGMENTS_N; ++j)
      for (int r = 0; r < SUMS; ++r)
        for (int term = 0; term < STEP_TERMS; ++term) {
          uint left = group_element(memory, GROUP_LAYOUT(A_ALONG_K, PITCH_A), a + step * GROUP_STEP(A_ALONG_K) * 16, A_ALONG_K,
                                    warp % 4 * 16 + SUM_ROW(r, lane), term);
          uint right = group_element(memory, GROUP_LAYOUT(B_ALONG_K, PITCH_B), b + step * GROUP_STEP(B_ALONG_K) * 16, B_ALONG_K,
                                     j * FRAGMENT_COLUMNS + SUM_COLUMN(r, lane), term);
          float factors[2];
          widen_pair(left | right << 16, factors);
          sums[0][j][r] = MULTIPLY_ADD(factors[0], factors[1], sums[0][j][r]);
        }
}

#define MULTIPLY_START(stage) multiply_group(tiles, (stage) + GROUP_ROWS(warp), (stage) + STAGE_A, sums, lane, warp);
#define MULTIPLY_WAIT
#define COPIES_SEEN

#else

// The sums as operands, and their names in the instruction.
#define GROUP_SUM(j) "+f"(sums[0][j][0]), "+f"(sums[0][j][1]), "+f"(sums[0][j][2]), "+f"(sums[0][j][3])
#define GROUP_SUMS_16(j) GROUP_SUM(j), GROUP_SUM(j + 1), GROUP_SUM(j + 2), GROUP_SUM(j + 3)
#define GROUP_SUMS_32(j) GROUP_SUMS_16(j), GROUP_SUMS_16(j + 4)
#define GROUP_SUMS_64(j) GROUP_SUMS_32(j), GROUP_SUMS_32(j + 8)
#define GROUP_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define GROUP_NAMES_32 GROUP_NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define GROUP_NAMES_64                                                                                  \
  GROUP_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48" \
                 ", %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#if TILE_N == 64
#define GROUP_SUMS GROUP_SUMS_32(0)
#define GROUP_NAMES GROUP_NAMES_32
#define GROUP_SHAPE "m64n64k16"
#define GROUP_A "%32"
#define GROUP_B "%33"
#define GROUP_STEP_A "%34"
#define GROUP_STEP_B "%35"
#elif TILE_N == 128
#define GROUP_SUMS GROUP_SUMS_64(0)
#define GROUP_NAMES GROUP_NAMES_64
#define GROUP_SHAPE "m64n128k16"
#define GROUP_A "%64"
#define GROUP_B "%65"
#define GROUP_STEP_A "%66"
#define GROUP_STEP_B "%67"
#else
#error "blocks of 64 or 128 columns"
#endif
#if A_ALONG_K
#define GROUP_TURN_A "0"
#else
#define GROUP_TURN_A "1"
#endif
#if B_ALONG_K
#define GROUP_TURN_B "0"
#else
#define GROUP_TURN_B "1"
#endif

// One step: the product of what the descriptors a and b name is added to the sums.
#define GROUP_MULTIPLY                                                                                                               \
  "//! wgmma.mma_async.sync.aligned." GROUP_SHAPE ".f32." PTX_TYPE "." PTX_TYPE " {" GROUP_NAMES "}, a, b, add, 1, 1, " GROUP_TURN_A \
  ", " GROUP_TURN_B ";\n"
#define GROUP_NEXT "//! add.s64 a, a, " GROUP_STEP_A ";\n//! add.s64 b, b, " GROUP_STEP_B ";\n" GROUP_MULTIPLY
#if STEPS_K != 2
#error "two steps in a block"
#endif

// Starts the multiplication of a stage, and waits until all that were started are done: nothing in between may touch the sums.
#define MULTIPLY_START(stage)                                                                                                    \
  PTX("//! { .reg .b64 a, b; .reg .pred add;\n//! mov.b64 a, " GROUP_A ";\n//! mov.b64 b, " GROUP_B ";\n"                         \
      "//! setp.eq.u32 add, 1, 1;\n//! wgmma.fence.sync.aligned;\n" GROUP_MULTIPLY GROUP_NEXT                                   \
      "//! wgmma.commit_group.sync.aligned; }\n"                                                                                 \
      : GROUP_SUMS                                                                                                               \
      : "l"(groupA + ((stage) >> 4)), "l"(groupB + ((stage) >> 4)), "n"(GROUP_STEP(A_ALONG_K)), "n"(GROUP_STEP(B_ALONG_K))         \
      : "memory");
#define MULTIPLY_WAIT PTX("//! wgmma.wait_group.sync.aligned 0;\n" : GROUP_SUMS::"memory");

// The unit reads local memory another way than copies write it.
#define COPIES_SEEN PTX("//! fence.proxy.async.shared::cta;\n" ::: "memory");

#define MATRIX_PLACES                                                                                                            \
  const ulong groupA = GROUP_LAYOUT(A_ALONG_K, PITCH_A) | (ulong)((shared_address(tiles) + GROUP_ROWS(warp)) >> 4);                \
  const ulong groupB = GROUP_LAYOUT(B_ALONG_K, PITCH_B) | (ulong)((shared_address(tiles) + STAGE_A) >> 4);

#endif

// The loop over `blocks` blocks of k (matrix_tile.h). The stage that is copied to while one is multiplied is that of the block before
// it, which every warp has waited for when it comes to the barrier.
#define MATRIX_LOOP(blocks, COPY)                                            \
  {                                                                          \
    int queued = 0, from = 0, to = (STAGES - 1) * STAGE_BYTES;               \
    for (; queued < STAGES - 1; ++queued) {                                  \
      if (queued < (blocks)) { COPY(queued * STAGE_BYTES) }                  \
      COPY_COMMIT                                                            \
    }                                                                        \
    for (int block = 0; block < (blocks); ++block, ++queued) {               \
      COPY_WAIT(STAGES - 2)                                                  \
      COPIES_SEEN                                                            \
      LOCAL_BARRIER;                                                         \
      MULTIPLY_START(from)                                                   \
      if (queued < (blocks)) { COPY(to) }                                    \
      COPY_COMMIT                                                            \
      MULTIPLY_WAIT                                                          \
      to = from;                                                             \
      from = from == (STAGES - 1) * STAGE_BYTES ? 0 : from + STAGE_BYTES;    \
    }                                                                        \
    COPY_WAIT(0)                                                             \
    LOCAL_BARRIER;                                                           \
  }

#endif
