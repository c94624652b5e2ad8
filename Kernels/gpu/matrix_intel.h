// Intel's matrix units, XMX (matrix_unit.h): cl_intel_subgroup_matrix_multiply_accumulate, in sub-groups of 8 (Xe-HPG) or of 16
// (Xe-HPC and later). A lane reads its own words; across k, where neighbours in a row are two rows' (columns') numbers, by halves
// and pairs of what it needs.
#ifndef GRAFT_GPU_MATRIX_INTEL_H
#define GRAFT_GPU_MATRIX_INTEL_H

#if MATRIX_UNIT == 5
#define LANES 8
#define WORDS_A 8
#define LANE_OF_A(m, word, lane) (word)
#define WORD_OF_A(m, word) (m)
#else
#define LANES 16
#define WORDS_A 4  // two rows' numbers each
#define ROWS_A_WORD 2
#endif
#define FRAGMENT_ROWS 8
#define FRAGMENT_COLUMNS LANES
#define WORDS_B 8
#define SUMS 8
#define SUM_ROW(r, lane) (r)
#define SUM_COLUMN(r, lane) (lane)
#define SUM_COLUMNS 1
#define SUM_ROWS 8
#define SUM_PAIRS 0
#define BUFFERS 1  // with four threads' registers or eight's: a step's fragments fill the half of them
#define LANE_OF_B(n, word, lane) (n)
#define WORD_OF_B(n, word) (word)
FRAGMENTS_TYPE

// A warp is a sub-group: in one dimension, work-items beside each other.
#if EMULATED
#define MATRIX_KERNEL __kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1)))
#else
#define MATRIX_KERNEL __attribute__((intel_reqd_sub_group_size(LANES))) __kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1)))
#endif

static inline uint unit_narrow_one(float x) { return narrow(x); }
static inline float unit_widen_one(uint bits) { return widen((element)bits); }

// A fragment of A along k begins at a multiple of eight rows, so what a row's number adds to a chunk's is known; across k it is one
// chunk wide.
static inline void load_fragments_a(__local const uchar *rows, int step, Fragments *f, int lane, int warp) {
#if A_ALONG_K
  __local const uchar *rowsA = rows + warp / WARPS_N * WARP_M * ROW_A;
  UNROLLED
  for (int i = 0; i < FRAGMENTS_M; ++i) {
    UNROLLED
    for (int w = 0; w < WORDS_A; ++w) {
#if MATRIX_UNIT == 5
      f->a[i][w] = *(__local const uint *)(rowsA + i * 8 * ROW_A + PLACE(w, 2 * step + lane / 4, ROW_A) + lane % 4 * 4);
#else
      uint low = *(__local const ushort *)(rowsA + i * 8 * ROW_A + PLACE(2 * w, 2 * step + lane / 8, ROW_A) + lane % 8 * 2);
      uint high = *(__local const ushort *)(rowsA + i * 8 * ROW_A + PLACE(2 * w + 1, 2 * step + lane / 8, ROW_A) + lane % 8 * 2);
      f->a[i][w] = low | high << 16;
#endif
    }
  }
#elif MATRIX_UNIT == 5
  uint place = PLACE(2 * lane, warp / WARPS_N * WARP_M / 8, ROW_A), place1 = PLACE(2 * lane + 1, warp / WARPS_N * WARP_M / 8, ROW_A);
  UNROLLED
  for (int i = 0; i < FRAGMENTS_M; ++i) {
    UNROLLED
    for (int w = 0; w < WORDS_A; w += 2) {
      uint low = *(__local const uint *)(rows + NEXT_ACROSS(place, i, step, 8, ROW_A) + 2 * w);
      uint high = *(__local const uint *)(rows + NEXT_ACROSS(place1, i, step, 8, ROW_A) + 2 * w);
      f->a[i][w] = (low & 0xFFFF) | high << 16;
      f->a[i][w + 1] = low >> 16 | (high & 0xFFFF0000);
    }
  }
#else
  uint place = PLACE(lane, warp / WARPS_N * WARP_M / 8, ROW_A);
  UNROLLED
  for (int i = 0; i < FRAGMENTS_M; ++i) {
    uint4 words = *(__local const uint4 *)(rows + NEXT_ACROSS(place, i, step, 8, ROW_A));
    f->a[i][0] = words.x, f->a[i][1] = words.y, f->a[i][2] = words.z, f->a[i][3] = words.w;
  }
#endif
}

static inline void load_fragments_b(__local const uchar *rows, int step, Fragments *f, int lane, int warp) {
  const int column = warp % WARPS_N * WARP_N + lane;
#if B_ALONG_K
  uint placeB = PLACE(column, 0, ROW_B);
  UNROLLED
  for (int j = 0; j < FRAGMENTS_N; ++j) {
    uint place = NEXT_ALONG(placeB, j, step, FRAGMENT_COLUMNS, ROW_B);
    uint4 low = *(__local const uint4 *)(rows + place), high = *(__local const uint4 *)(rows + (place ^ 16));
    uint *to = f->b[j];
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w, to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
  }
#else
  uint placeB = PLACE(0, column / 8, ROW_B) + column % 8 * 2;
  UNROLLED
  for (int j = 0; j < FRAGMENTS_N; ++j) {
    uint place = NEXT_ACROSS(placeB, j, step, FRAGMENT_COLUMNS, ROW_B);
    UNROLLED
    for (int w = 0; w < WORDS_B; ++w) {
      uint low = *(__local const ushort *)(rows + ((place ^ (uint)TURN(2 * w, ROW_B) << 4) + 2 * w * ROW_B));
      uint high = *(__local const ushort *)(rows + ((place ^ (uint)TURN(2 * w + 1, ROW_B) << 4) + (2 * w + 1) * ROW_B));
      f->b[j][w] = low | high << 16;
    }
  }
#endif
}

static inline void load_fragments(__local const uchar *stage, int step, Fragments *f, int lane, int warp) {
  load_fragments_a(stage, step, f, lane, warp);
  load_fragments_b(stage + STAGE_A, step, f, lane, warp);
}

#if !EMULATED

static inline void multiply_fragment(float *d, const uint *a, const uint *b) {
#if MATRIX_UNIT == 5
  int8 left = as_int8((uint8)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]));
#else
  short8 left = as_short8((uint4)(a[0], a[1], a[2], a[3]));
#endif
  int8 right = as_int8((uint8)(b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]));
  float8 sum = (float8)(d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]);
#if GRAFT_STORAGE == GRAFT_FLOAT16
  sum = intel_sub_group_f16_f16_matrix_mad_k16(left, right, sum);
#else
  sum = intel_sub_group_bf16_bf16_matrix_mad_k16(left, right, sum);
#endif
  d[0] = sum.s0, d[1] = sum.s1, d[2] = sum.s2, d[3] = sum.s3, d[4] = sum.s4, d[5] = sum.s5, d[6] = sum.s6, d[7] = sum.s7;
}

#endif
#endif
