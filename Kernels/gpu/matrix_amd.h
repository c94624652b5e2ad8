// AMD's matrix units (matrix_unit.h): WMMA and MFMA, by clang's built-in functions. Lanes read their own words: of operands along k
// whole ones; across it on MFMA by halves, and on WMMA, where every lane has all of a row, with its neighbour's help.
#ifndef GRAFT_GPU_MATRIX_AMD_H
#define GRAFT_GPU_MATRIX_AMD_H

#define FRAGMENT_ROWS 16
#define FRAGMENT_COLUMNS 16
#define SUM_ROW(r, lane) ((lane) % 16)
#define SUM_ROWS 1
#if MATRIX_UNIT == 2
#define LANES 32
#define WORDS_A 8
#define WORDS_B 8
#define SUMS 8
#define SUM_COLUMN(r, lane) ((r) * 2 + (lane) / 16)
#define SUM_COLUMNS 8
#define SUM_PAIRS 0
#define BUFFERS 1  // fragments are too large to hold those of two steps
#define LANE_OF_A(m, word, lane) ((lane) / 16 * 16 + (m))
#define WORD_OF_A(m, word) (word)
#else
#define LANES 64
#define WORDS_A 2
#define WORDS_B 2
#define SUMS 4
#define SUM_COLUMN(r, lane) ((lane) / 16 * 4 + (r))
#define SUM_COLUMNS 4
#define SUM_PAIRS 1
#define BUFFERS 2
#define LANE_OF_A(m, word, lane) ((word) / 2 * 16 + (m))
#define WORD_OF_A(m, word) ((word) % 2)
#endif
#define LANE_OF_B LANE_OF_A
#define WORD_OF_B WORD_OF_A
FRAGMENTS_TYPE

// The compiler else trades registers for warps that local memory has no room for, and keeps sums in memory.
#if EMULATED
#define MATRIX_KERNEL __kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1)))
#else
#define MATRIX_KERNEL __kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1), amdgpu_waves_per_eu(1, 4)))
#endif

// Where lane `lane` finds its words of the fragment that begins at row (column) `first`; across k, the first of the numbers it reads.
static inline uint lane_place(int lane, int first, const bool alongK, const uint rowBytes) {
  int column = first + lane % 16;
#if MATRIX_UNIT == 2
  if (!alongK) return PLACE(lane % 2, column / 8, rowBytes) + column % 8 / 2 * 4;
  return PLACE(column, 0, rowBytes);
#else
  if (!alongK) return PLACE(lane / 16 * 4, column / 8, rowBytes) + column % 8 * 2;
  return PLACE(column, lane / 32, rowBytes) + lane / 16 % 2 * 8;
#endif
}

#if MATRIX_UNIT == 2

// Words across k. Of every two rows a lane with an even number reads the first, one with an odd number the second, two columns each:
// its own and that of the neighbour, to which it owes the other's number.
static inline void load_words_across(__local const uchar *from, uint place, int lane, const uint rowBytes, uint *to) {
  UNROLLED
  for (int w = 0; w < 8; ++w) {
    const uint at = (uint)TURN(2 * w, rowBytes) << 4, row = 2 * w * rowBytes;
    uint mine = *(__local const uint *)(from + ((place ^ at) + row));
#if EMULATED
    uint theirPlace = lane % 2 ? (place ^ (uint)TURN(1, rowBytes) << 4) - rowBytes : (place ^ (uint)TURN(1, rowBytes) << 4) + rowBytes;
    uint theirs = *(__local const uint *)(from + ((theirPlace ^ at) + row));
    to[w] = lane % 2 ? theirs >> 16 | (mine & 0xFFFF0000) : (mine & 0xFFFF) | theirs << 16;
#else
    // Lanes 1, 0, 3, 2 of every four; then bytes 0 to 3 of `theirs` and 4 to 7 of `mine`.
    uint theirs = (uint)__builtin_amdgcn_mov_dpp((int)mine, 0xB1, 0xF, 0xF, true);
    to[w] = __builtin_amdgcn_perm(mine, theirs, lane % 2 ? 0x07060302 : 0x01000504);
    // Compilers else keep both numbers of all words of a block until they are multiplied: more than there are registers.
    __asm__ volatile("" : "+v"(to[w]));
#endif
  }
}

#else

// Words across k, by halves.
static inline void load_words_across(__local const uchar *from, uint place, int lane, const uint rowBytes, uint *to) {
  UNROLLED
  for (int w = 0; w < 2; ++w) {
    uint low = *(__local const ushort *)(from + ((place ^ (uint)TURN(2 * w, rowBytes) << 4) + 2 * w * rowBytes));
    uint high = *(__local const ushort *)(from + ((place ^ (uint)TURN(2 * w + 1, rowBytes) << 4) + (2 * w + 1) * rowBytes));
    to[w] = low | high << 16;
  }
}

#endif

static inline void load_words(__local const uchar *from, uint place, uint *to) {
#if MATRIX_UNIT == 2
  uint4 low = *(__local const uint4 *)(from + place), high = *(__local const uint4 *)(from + (place ^ 16));
  to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w, to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
#else
  uint2 words = *(__local const uint2 *)(from + place);
  to[0] = words.x, to[1] = words.y;
#endif
}

static inline void load_fragments_a(__local const uchar *rows, int step, Fragments *f, int lane, int warp) {
  uint place = lane_place(lane, warp / WARPS_N * WARP_M, A_ALONG_K, ROW_A);
  UNROLLED
  for (int i = 0; i < FRAGMENTS_M; ++i) {
#if A_ALONG_K
    load_words(rows, NEXT_ALONG(place, i, step, 16, ROW_A), f->a[i]);
#else
    load_words_across(rows, NEXT_ACROSS(place, i, step, 16, ROW_A), lane, ROW_A, f->a[i]);
#endif
  }
}

static inline void load_fragments_b(__local const uchar *rows, int step, Fragments *f, int lane, int warp) {
  uint place = lane_place(lane, warp % WARPS_N * WARP_N, B_ALONG_K, ROW_B);
  UNROLLED
  for (int j = 0; j < FRAGMENTS_N; ++j) {
#if B_ALONG_K
    load_words(rows, NEXT_ALONG(place, j, step, 16, ROW_B), f->b[j]);
#else
    load_words_across(rows, NEXT_ACROSS(place, j, step, 16, ROW_B), lane, ROW_B, f->b[j]);
#endif
  }
}

static inline void load_fragments(__local const uchar *stage, int step, Fragments *f, int lane, int warp) {
  load_fragments_a(stage, step, f, lane, warp);
  load_fragments_b(stage + STAGE_A, step, f, lane, warp);
}

#if EMULATED || GRAFT_STORAGE == GRAFT_BFLOAT16

static inline uint unit_narrow_one(float x) { return narrow(x); }
static inline float unit_widen_one(uint bits) { return widen((element)bits); }

#else

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
static inline uint unit_narrow_one(float x) { return as_ushort((half)x); }
static inline float unit_widen_one(uint bits) { return (float)as_half((ushort)bits); }

#endif

#if !EMULATED

// What a chip's compiler must not be left to refuse: its front end knows these builtins by their names, and its back end then ends the
// process. Those of RDNA 4 (gfx12) have other fragments, and the first MFMA units (gfx908) another product of bfloat16.
#if MATRIX_UNIT == 2 && !defined(__GFX11__)
#error "no WMMA of RDNA 3"
#endif
#if MATRIX_UNIT == 3 && GRAFT_STORAGE == GRAFT_BFLOAT16 && defined(__gfx908__)
#error "no MFMA of four bfloat16"
#endif

// The unit's rows are the product's columns.
static inline void multiply_fragment(float *d, const uint *a, const uint *b) {
#if MATRIX_UNIT == 2
  uint8 left = (uint8)(b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]), right = (uint8)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
  float8 sum = (float8)(d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]);
#if GRAFT_STORAGE == GRAFT_FLOAT16
  sum = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(as_half16(left), as_half16(right), sum);
#else
  sum = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(as_short16(left), as_short16(right), sum);
#endif
  d[0] = sum.s0, d[1] = sum.s1, d[2] = sum.s2, d[3] = sum.s3, d[4] = sum.s4, d[5] = sum.s5, d[6] = sum.s6, d[7] = sum.s7;
#else
  uint2 left = (uint2)(b[0], b[1]), right = (uint2)(a[0], a[1]);
  float4 sum = (float4)(d[0], d[1], d[2], d[3]);
#if GRAFT_STORAGE == GRAFT_FLOAT16
  sum = __builtin_amdgcn_mfma_f32_16x16x16f16(as_half4(left), as_half4(right), sum, 0, 0, 0);
#else
  sum = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(as_short4(left), as_short4(right), sum, 0, 0, 0);
#endif
  d[0] = sum.x, d[1] = sum.y, d[2] = sum.z, d[3] = sum.w;
#endif
}

#endif
#endif
