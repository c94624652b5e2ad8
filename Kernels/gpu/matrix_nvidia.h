// NVIDIA's matrix units (matrix_unit.h): mma.sync with ldmatrix, by inline PTX, from sm_80 on with cp.async.
//
// ldmatrix takes four 8 × 8 matrices of 16-bit numbers at once; lane l gives the address of row l % 8 of matrix l / 8, and gets of
// matrix r, as register r, row g's pair t, or, transposed, column g's. A row is 16 bytes, so as well four numbers of 32 bits along
// k; those across k are read one by one, since nothing transposes them.
#ifndef GRAFT_GPU_MATRIX_NVIDIA_H
#define GRAFT_GPU_MATRIX_NVIDIA_H

#define LANES 32
#define FRAGMENT_ROWS 16
#define FRAGMENT_COLUMNS 8
#define WORDS_A 4
#define WORDS_B 2
#define SUMS 4
#define SUM_ROW(r, lane) ((lane) / 4 + (r) / 2 * 8)
#define SUM_COLUMN(r, lane) ((lane) % 4 * 2 + (r) % 2)
#define SUM_COLUMNS 2  // how many different columns a lane's sums have, sum r that of number r % SUM_COLUMNS
#define SUM_ROWS 2     // and rows, sum r that of number r / (SUMS / SUM_ROWS)
#define SUM_PAIRS 1    // whether sums 2r and 2r + 1 are neighbours in a row
#define BUFFERS 2      // steps whose fragments are in registers
// Which lane and register has a word of row m (column n); what `lane` reads, where several have it.
#define LANE_OF_A(m, word, lane) ((m) % 8 * 4 + (word) % 4)
#define WORD_OF_A(m, word) ((m) / 8 + (word) / 4 * 2)
#define LANE_OF_B(n, word, lane) ((n) * 4 + (word) % 4)
#define WORD_OF_B(n, word) ((word) / 4)
FRAGMENTS_TYPE

// Whether ldmatrix reads an operand.
#define MATRICES_A (A_ALONG_K || ELEMENT_BYTES == 2)
#define MATRICES_B (B_ALONG_K || ELEMENT_BYTES == 2)

// The place of lane `lane`'s row of the four 8 × 8 matrices of warp `warp`'s first fragment (A), or first two (B); of its own first
// word where words are read one by one.
static inline uint lane_place_a(int lane, int warp) {
  int first = warp / WARPS_N * WARP_M;
#if A_ALONG_K
  return PLACE(first + lane % 16, lane / 16, ROW_A);
#elif MATRICES_A
  return PLACE(lane % 8 + lane / 16 * 8, first / 8 + lane / 8 % 2, ROW_A);
#else
  return PLACE(lane % 4, first / 4 + lane / 16, ROW_A) + lane / 4 % 4 * 4;
#endif
}

static inline uint lane_place_b(int lane, int warp) {
  int first = warp % WARPS_N * WARP_N;
#if B_ALONG_K
  return PLACE(first + lane % 8 + lane / 16 * 8, lane / 8 % 2, ROW_B);
#elif MATRICES_B
  return PLACE(lane % 16, first / 8 + lane / 16, ROW_B);
#else
  return PLACE(lane % 4, first / 4 + lane / 16, ROW_B) + lane / 4 % 4 * 4;
#endif
}

// The place of fragment i of A, and of the fragments 2j and 2j + 1 of B that ldmatrix reads together.
#if A_ALONG_K
#define NEXT_A(place, i, step) NEXT_ALONG(place, i, step, 16, ROW_A)
#else
#define NEXT_A(place, i, step) NEXT_ACROSS(place, i, step, 16, ROW_A)
#endif
#if B_ALONG_K
#define NEXT_B(place, j, step) NEXT_ALONG(place, j, step, 16, ROW_B)
#else
#define NEXT_B(place, j, step) NEXT_ACROSS(place, j, step, 16, ROW_B)
#endif

#if ELEMENT_BYTES == 4

// Words across k: the eight rows (columns) on are two chunks on, the four terms on four rows.
static inline void load_words_a(__local const uchar *from, uint place, uint *to) {
  UNROLLED
  for (int w = 0; w < WORDS_A; ++w) to[w] = *(__local const uint *)(from + (place ^ w % 2 * 32) + w / 2 * 4 * ROW_A);
}

static inline void load_words_b(__local const uchar *from, uint place, uint *to) {
  UNROLLED
  for (int w = 0; w < WORDS_B; ++w) to[w] = *(__local const uint *)(from + place + w * 4 * ROW_B);
}

static inline void load_fragments_across(__local const uchar *stage, uint placeA, uint placeB, const int step, Fragments *f) {
#if !A_ALONG_K
  UNROLLED
  for (int i = 0; i < FRAGMENTS_M; ++i) load_words_a(stage, NEXT_A(placeA, i, step), f->a[i]);
#endif
#if !B_ALONG_K
  UNROLLED
  for (int j = 0; j < FRAGMENTS_N; ++j) load_words_b(stage + STAGE_A, NEXT_ACROSS(placeB, j, step, 8, ROW_B), f->b[j]);
#endif
}

#endif

#if EMULATED

static inline uint emulated_word(__local const uchar *stage, uint place, int word) { return *(__local const uint *)(stage + place + 4 * word); }
static inline uint emulated_half(__local const uchar *stage, uint place, int at) { return *(__local const ushort *)(stage + place + 2 * at); }

// ldmatrix: register r of lane l from the rows whose places lanes 8 r … 8 r + 7 would give.
#define EMULATED_LOAD(to, stage, place, transposed)                                                                      \
  for (int r = 0; r < 4; ++r) {                                                                                          \
    if (transposed) {                                                                                                    \
      int source = 8 * r + lane % 4 * 2, source1 = source + 1;                                                           \
      uint low = emulated_half(stage, place(source), lane / 4), high = emulated_half(stage, place(source1), lane / 4);   \
      to(r) = low | high << 16;                                                                                          \
    } else {                                                                                                             \
      to(r) = emulated_word(stage, place(8 * r + lane / 4), lane % 4);                                                   \
    }                                                                                                                    \
  }

static inline void load_fragments_a(__local const uchar *rows, int step, Fragments *f, int lane, int warp) {
#if MATRICES_A
  for (int i = 0; i < FRAGMENTS_M; ++i) {
#define PLACE_OF(l) NEXT_A(lane_place_a(l, warp), i, step)
#define TO(r) f->a[i][r]
    EMULATED_LOAD(TO, rows, PLACE_OF, !A_ALONG_K)
#undef PLACE_OF
#undef TO
  }
#endif
}

static inline void load_fragments_b(__local const uchar *rows, int step, Fragments *f, int lane, int warp) {
#if MATRICES_B
  for (int j = 0; j < FRAGMENTS_N / 2; ++j) {
#define PLACE_OF(l) NEXT_B(lane_place_b(l, warp), j, step)
#define TO(r) f->b[2 * j + (r) / 2][(r) % 2]
    EMULATED_LOAD(TO, rows, PLACE_OF, !B_ALONG_K)
#undef PLACE_OF
#undef TO
  }
#endif
}

static inline void load_fragments(__local const uchar *stage, int step, Fragments *f, int lane, int warp) {
  load_fragments_a(stage, step, f, lane, warp);
  load_fragments_b(stage + STAGE_A, step, f, lane, warp);
#if ELEMENT_BYTES == 4
  load_fragments_across(stage, lane_place_a(lane, warp), lane_place_b(lane, warp), step, f);
#endif
}

#else

// NVIDIA's compiler calls it asm, clang __asm__.
#ifdef __NV_CL_C_VERSION
#define PTX asm volatile
#define PTX_PURE asm
#else
#define PTX __asm__ volatile
#define PTX_PURE __asm__
#endif

// An address of local memory, as PTX's instructions for shared memory take it.
static inline uint shared_address(__local const void *pointer) { return (uint)(size_t)pointer; }

#if MATRIX_UNIT != 4

// Copies `count` elements (4, 8 or 16 bytes) behind the program's back, or zeros without reading anything.
static inline void copy_async(__local uchar *to, __global const element *from, bool inside, const int count) {
  uint address = shared_address(to), bytes = inside ? ELEMENT_BYTES * count : 0;
  if (count * ELEMENT_BYTES == 16) {
    PTX("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"((ulong)from), "r"(bytes) : "memory");
  } else if (count * ELEMENT_BYTES == 8) {
    PTX("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(address), "l"((ulong)from), "r"(bytes) : "memory");
  } else {
    PTX("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"((ulong)from), "r"(bytes) : "memory");
  }
}
#define COPY_COMMIT PTX("cp.async.commit_group;" ::: "memory");
#define COPY_WAIT(pending) PTX("cp.async.wait_group %0;" ::"n"(pending) : "memory");

#endif

static inline void load_matrices(uint address, uint *to, const bool transposed) {
  if (transposed) {
    PTX("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
        : "r"(address)
        : "memory");
  } else {
    PTX("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
        : "r"(address)
        : "memory");
  }
}

static inline void load_matrices_a(uint address, uint placeA, const int step, Fragments *f) {
#if MATRICES_A
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; ++i) load_matrices(address + NEXT_A(placeA, i, step), f->a[i], !A_ALONG_K);
#endif
}

static inline void load_matrices_b(uint address, uint placeB, const int step, Fragments *f) {
#if MATRICES_B
#pragma unroll
  for (int j = 0; j < FRAGMENTS_N / 2; ++j) {
    uint pair[4];
    load_matrices(address + NEXT_B(placeB, j, step), pair, !B_ALONG_K);
    f->b[2 * j][0] = pair[0], f->b[2 * j][1] = pair[1], f->b[2 * j + 1][0] = pair[2], f->b[2 * j + 1][1] = pair[3];
  }
#endif
}

static inline void load_fragments(__local const uchar *stage, uint address, uint placeA, uint placeB, const int step, Fragments *f) {
  load_matrices_a(address, placeA, step, f);
  load_matrices_b(address + STAGE_A, placeB, step, f);
#if ELEMENT_BYTES == 4
  load_fragments_across(stage, placeA, placeB, step, f);
#endif
}
#define load_fragments_a(rows, step, f, lane, warp) load_matrices_a(shared_address(rows), lane_place_a(lane, warp), step, f)
#define load_fragments_b(rows, step, f, lane, warp) load_matrices_b(shared_address(rows), lane_place_b(lane, warp), step, f)
#if MATRIX_UNIT != 7
#define MATRIX_PLACES                  \
  const uint tilesAddress = shared_address(tiles); \
  const uint placeA = lane_place_a(lane, warp), placeB = lane_place_b(lane, warp);
#define LOAD_FRAGMENTS(stage, step, f) load_fragments(tiles + (stage), tilesAddress + (stage), placeA, placeB, step, f);
#endif

#if ELEMENT_BYTES == 4

static inline uint round_to_tf32(uint word) {
  uint rounded;
  PTX_PURE("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(as_float(word)));
  return rounded;
}

// Here, and not where words are loaded, which would wait for them a step early.
static inline void round_fragments(Fragments *f) {
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; ++i)
#pragma unroll
    for (int w = 0; w < WORDS_A; ++w) f->a[i][w] = round_to_tf32(f->a[i][w]);
#pragma unroll
  for (int j = 0; j < FRAGMENTS_N; ++j)
#pragma unroll
    for (int w = 0; w < WORDS_B; ++w) f->b[j][w] = round_to_tf32(f->b[j][w]);
}
#define ROUND(f) round_fragments(f);

#endif

#if GRAFT_STORAGE == GRAFT_FLOAT32
#define PTX_SHAPE "m16n8k8"
#define PTX_TYPE "tf32"
#elif GRAFT_STORAGE == GRAFT_FLOAT16
#define PTX_SHAPE "m16n8k16"
#define PTX_TYPE "f16"
#else
#define PTX_SHAPE "m16n8k16"
#define PTX_TYPE "bf16"
#endif

// Volatile: what a compiler moves into a branch that not all lanes take would never end.
static inline void multiply_fragment(float *d, const uint *a, const uint *b) {
#if MATRIX_UNIT != 4
  PTX("mma.sync.aligned." PTX_SHAPE ".row.col.f32." PTX_TYPE "." PTX_TYPE ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
           : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
           : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
  for (int part = 0; part < 2; ++part)
    PTX("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
             : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
             : "r"(a[2 * part]), "r"(a[2 * part + 1]), "r"(b[part]));
#endif
}

#if ELEMENT_BYTES == 2

static inline uint unit_narrow(float low, float high) {
  uint pair;
#if MATRIX_UNIT != 4
  PTX_PURE("cvt.rn." PTX_TYPE "x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#else
  PTX_PURE("{ .reg .b16 low, high; cvt.rn.f16.f32 low, %1; cvt.rn.f16.f32 high, %2; mov.b32 %0, {low, high}; }"
           : "=r"(pair)
           : "f"(low), "f"(high));
#endif
  return pair;
}

static inline void unit_widen(uint pair, float *to) {
#if GRAFT_STORAGE == GRAFT_FLOAT16
  PTX_PURE("{ .reg .b16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
           : "=f"(to[0]), "=f"(to[1])
           : "r"(pair));
#else
  to[0] = as_float(pair << 16);
  to[1] = as_float(pair & 0xFFFF0000);
#endif
}

#endif
#endif

#define MATRIX_KERNEL __kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1)))

#endif
