// What attention and its gradients need of a matrix unit beside products (matrix_attention.cl, matrix_attention_gradient_*.cl): numbers
// of other lanes, weights as an operand, and values, an operand across k.
//
// The names are those of the forward pass. In the gradients of keys and values a row is a key, and queries pass by.
//
// A sum of scores is an operand of the next product once it is rounded to 16 bits: 16 keys' scores are a step of weights. Which
// word of the operand has which of a lane's sums (matrix_unit.h has where both lie):
//
//     NVIDIA    word w: sums 2 (w % 2) and one on, of fragment w / 2
//     WMMA      word w: sum w of both halves of the warp; lane + 16 has the odd columns
//     MFMA      word w: sums 2w and 2w + 1
//     XMX, 8    word w: sum w of both fragments. A pair is then of keys w and 8 + w: values are put into that order
//     XMX, 16   word w: sums 2w and 2w + 1, rows here
//
// Values lie in local memory as rows of keys where the unit transposes (NVIDIA), else as columns, along keys, which are transposed as
// they are copied.
#ifndef GRAFT_GPU_MATRIX_ATTENTION_H
#define GRAFT_GPU_MATRIX_ATTENTION_H
#ifndef GRAFT_STORAGE
#define GRAFT_STORAGE GRAFT_FLOAT16  // what compiles, as everything below that is not set
#endif

// Tunables; MatrixAttentionTile (Sources/GraftGraph/Lowering/MatrixAttention.swift) sets them.
#ifndef HEAD
#define HEAD 64       // a head's size, rounded up to whole steps of 16
#endif
#ifndef WIDTH
#define WIDTH HEAD    // elements of the result that a work-group sums, a multiple of 16; those of a head are dealt in parts
#endif
#ifndef KEYS
#define KEYS 64       // keys and values in local memory, a multiple of 32: where sums begin, so the same for any number of rows
#endif
#ifndef WARPS
#define WARPS 4
#endif
#ifndef WARP_ROWS
#define WARP_ROWS 16  // queries of a warp
#endif
#ifndef VECTOR
#define VECTOR 8      // elements a copy takes: 8, 4 or 2
#endif
#ifndef KEEPS_QUERIES
#define KEEPS_QUERIES 1  // whether queries stay in registers, or are read again with every block of keys
#endif
#ifndef HAS_MASK
#define HAS_MASK 1
#endif

// The tile of each product: a warp's rows, and 16 columns at a time.
#define TILE_M (WARPS * WARP_ROWS)
#define TILE_N 16
#define TILE_K 32
#define WARPS_M WARPS
#define WARPS_N 1
#include "gpu/matrix_multiply.h"
#include "gpu/matrix_chunk.h"
#if ELEMENT_BYTES != 2
#error "attention on matrix units is for numbers of 16 bits"
#endif

// Rows in local memory are slices of 32 elements, 64 bytes, one slice's rows after the other's.
#define SLICE 32
#define SLICE_ROW (2 * SLICE)
#define SLICES(extent) (((extent) + SLICE - 1) / SLICE)
#define STEPS (HEAD / 16)
#define GROUPS (WIDTH / 16)
#define KEY_STEPS (KEYS / 16)

#define LOG2_E 1.44269504f
#define FULL static inline __attribute__((always_inline))

FULL size_t head_of(const GraftHeads lies, uint image, uint head) {
  return (size_t)image * lies.image + (size_t)head * lies.head + lies.offset;
}

// A work-group's image, head, part of the head and first of `rows` rows: index = ((image heads + head) parts + part) blocks + block. A
// warp beyond the last row only copies.
#define FIND_PLACE(p, rows)                                                                                                            \
  const uint blocks = ((uint)(rows) + TILE_M - 1) / TILE_M, parts = ((uint)(p).size + WIDTH - 1) / WIDTH, index = get_group_id(0);     \
  const uint shares = index / blocks, matrices = shares / parts, image = matrices / (uint)(p).heads, head = matrices - image * (uint)(p).heads; \
  const int start = (int)(shares - matrices * parts) * WIDTH, firstOfGroup = (int)(index - shares * blocks) * TILE_M;                  \
  const int id = get_local_id(0), lane = id % LANES, warp = id / LANES, firstRow = firstOfGroup + warp * WARP_ROWS;                    \
  const bool computes = EMULATED || firstRow < (rows);
#define ROW_OF(i, s) (firstRow + (i) * FRAGMENT_ROWS + SUM_ROW((s) * (SUMS / SUM_ROWS), lane))

// The steps of a block of keys, as many as there are keys left. Emulated, barriers are inside, which stand no branch.
#if EMULATED
#define EACH_STEP(step, by) for (int step = 0, steps = min(KEY_STEPS, (left + 15) / 16); step < steps; step += by)
#else
#define EACH_STEP(step, by) UNROLLED for (int step = 0; step < KEY_STEPS; step += by) if (step * 16 < left)
#endif

// Between steps where the compiler else brings so many fragments of later ones that they have to lie in memory.
#if MATRIX_UNIT == 2 && !EMULATED
#define IN_ORDER __builtin_amdgcn_sched_barrier(0);
#else
#define IN_ORDER
#endif

// What lanes of one row differ in: bits from ROW_LANES_FIRST up to, without it, ROW_LANES_END.
#if MATRIX_NVIDIA
#define ROW_LANES_FIRST 1
#define ROW_LANES_END 4
#elif MATRIX_AMD
#define ROW_LANES_FIRST 16
#define ROW_LANES_END LANES
#else
#define ROW_LANES_FIRST 1
#define ROW_LANES_END LANES
#endif

// EXCHANGE(x, mask): the number of the lane whose index differs in those bits. All of a work-group's items take part where it is
// emulated, else a warp's.
#if EMULATED

EMULATED_FUNCTION uint exchange_words(uint x, int mask, __local uint *exchange) {
  int id = get_local_id(0);
  exchange[id] = x;
  LOCAL_BARRIER;
  x = exchange[id ^ mask];
  LOCAL_BARRIER;
  return x;
}
#define EXCHANGE(x, mask) exchange_words(x, mask, exchange)

#else

#if MATRIX_NVIDIA
static inline uint exchange_words(uint x, const uint mask) {
  uint other;
  PTX("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(other) : "r"(x), "r"(mask));
  return other;
}
#elif MATRIX_AMD
static inline uint exchange_words(uint x, const uint mask) {
  return (uint)__builtin_amdgcn_ds_bpermute((int)(((uint)get_local_id(0) ^ mask) % LANES * 4), (int)x);
}
#else
static inline uint exchange_words(uint x, const uint mask) { return intel_sub_group_shuffle_xor(x, mask); }
#endif
#define EXCHANGE(x, mask) exchange_words(x, mask)

#endif

// The greatest, and the sum, of a row's numbers over the lanes that have some of them, for each of those lanes.
#define OVER_ROW(x, combine)                                            \
  UNROLLED for (int mask = ROW_LANES_FIRST; mask < ROW_LANES_END; mask *= 2) { \
    float other = as_float(EXCHANGE(as_uint(x), mask));                 \
    x = combine(x, other);                                              \
  }
#define GREATER(a, b) ((b) > (a) ? (b) : (a))
#define ADDED(a, b) ((a) + (b))

// 2^x for x up to 0, nothing below float32's normal numbers: one instruction, whose 22 bits are many beside a weight's 8 or 11.
#if EMULATED
#define POWER_OF_2 exp2
#elif MATRIX_NVIDIA
static inline float power_of_2(float x) {
  float power;
  PTX_PURE("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}
#define POWER_OF_2 power_of_2
#else
#define POWER_OF_2 native_exp2
#endif

#if !SUM_PAIRS
static inline uint unit_narrow(float low, float high) { return unit_narrow_one(low) | unit_narrow_one(high) << 16; }
#endif

// Weights of 16 keys as the operand A of a step.
#if MATRIX_UNIT == 2

#define PUT_WEIGHTS(weights, f, lane)                                                      \
  UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)                                           \
    UNROLLED for (int w = 0; w < WORDS_A; w += 2) {                                        \
      uint mine = unit_narrow(weights[i][0][w], weights[i][0][w + 1]), other = EXCHANGE(mine, 16); \
      uint even = (lane) < 16 ? mine : other, odd = (lane) < 16 ? other : mine;            \
      (f)->a[i][w] = (even & 0xFFFF) | odd << 16;                                          \
      (f)->a[i][w + 1] = even >> 16 | (odd & 0xFFFF0000);                                  \
    }

#else

#if MATRIX_NVIDIA
#define WEIGHT(fragments, w, half) fragments[(w) / 2][(w) % 2 * 2 + (half)]
#elif MATRIX_UNIT == 5
#define WEIGHT(fragments, w, half) fragments[half][w]
#else
#define WEIGHT(fragments, w, half) fragments[0][2 * (w) + (half)]
#endif
#define PUT_WEIGHTS(weights, f, lane)            \
  UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i) \
    UNROLLED for (int w = 0; w < WORDS_A; ++w) (f)->a[i][w] = unit_narrow(WEIGHT(weights[i], w, 0), WEIGHT(weights[i], w, 1));

#endif

#define COPIES_OF(count) (((count) + ITEMS - 1) / ITEMS)
// Where each copy comes from takes registers of its own, which narrow copies are too many for. Wide ones that go by way of registers
// are all under way before the first is waited for; others nobody waits for here.
#if VECTOR == CHUNK && MATRIX_UNIT != 1
#define EACH_COPY UNROLLED
#else
#define EACH_COPY _Pragma("unroll 1")
#endif

// Queues the copies of ROWS rows of x from `first` on, `size` elements each, in SLICE_COUNT slices; zeros beyond the last of `count`
// and `size`.
#define PARTS (SLICE / VECTOR)
#define BRING(to, ROWS, SLICE_COUNT, x, token, first, count, size)                                                      \
  EACH_COPY for (int slice = 0; slice < (SLICE_COUNT); ++slice)                                                         \
    EACH_COPY for (int n = 0; n < COPIES_OF((ROWS) * PARTS); ++n) {                                                      \
      const int i = id + n * ITEMS, row = i / PARTS, part = i % PARTS * VECTOR, d = slice * SLICE + part;               \
      if ((ROWS) * PARTS % ITEMS == 0 || i < (ROWS) * PARTS)                                                            \
        copy_async((to) + slice * (ROWS) * SLICE_ROW + PLACE(row, part / CHUNK, SLICE_ROW) + part % CHUNK * ELEMENT_BYTES, \
                   (x) + ((uint)((first) + row) * (uint)(token) + (uint)d), (first) + row < (count) && d < (size), VECTOR); \
    }

#if MATRIX_NVIDIA

#define VALUE_BYTES (SLICES(WIDTH) * KEYS * SLICE_ROW)
#define BRING_VALUES(to, x, token, first, count, size) BRING(to, KEYS, SLICES(WIDTH), x, token, first, count, size)
// The element of the head's part that is column `column` of the sums.
#define ELEMENT_OF(column) (column)

// 16 keys' values, 16 columns of them, with lanes' places as in lane_place_b across k.
#define VALUE_PLACE(l) (PLACE((l) % 16, (l) / 16, SLICE_ROW) ^ (uint)(group) % 2 * 32)
FULL void load_values(__local const uchar *values, const int step, const int group, Fragments *f, int lane) {
  __local const uchar *rows = values + group / 2 * (KEYS * SLICE_ROW) + step * (16 * SLICE_ROW);
#if EMULATED
#define TO(r) f->b[(r) / 2][(r) % 2]
  EMULATED_LOAD(TO, rows, VALUE_PLACE, true)
#undef TO
#else
  uint pair[4];
  load_matrices(shared_address(rows) + VALUE_PLACE(lane), pair, true);
  f->b[0][0] = pair[0], f->b[0][1] = pair[1], f->b[1][0] = pair[2], f->b[1][1] = pair[3];
#endif
}
#define LOAD_VALUES(values, step, group, f) load_values(values, step, group, f, lane);

#else

// Work-items beside each other take parts of a row and put each element into a row of its own, beside each other too: other banks.
#define VALUE_BYTES (SLICES(KEYS) * WIDTH * SLICE_ROW)
#define VALUE_PARTS (WIDTH / VECTOR)
#define ELEMENT_OF(column) ((column) % VALUE_PARTS * VECTOR + (column) / VALUE_PARTS)
#if MATRIX_UNIT == 5
#define KEY_OF(pair, half) ((pair) / 8 * 16 + (pair) % 8 + (half) * 8)
#else
#define KEY_OF(pair, half) (2 * (pair) + (half))
#endif

FULL void load_words_of(__global const element *from, bool inside, uint *words) {
#if VECTOR == 8
  uint4 v = inside ? *(__global const uint4 *)from : (uint4)(0);
  words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
#elif VECTOR == 4
  uint2 v = inside ? *(__global const uint2 *)from : (uint2)(0);
  words[0] = v.x, words[1] = v.y;
#else
  words[0] = inside ? *(__global const uint *)from : 0;
#endif
}

FULL void bring_values(__local uchar *to, __global const element *x, int token, int first, int count, int size, int id) {
  EACH_COPY
  for (int n = 0; n < COPIES_OF(KEYS / 2 * VALUE_PARTS); ++n) {
    const int i = id + n * ITEMS, part = i % VALUE_PARTS, pair = i / VALUE_PARTS;
    if (KEYS / 2 * VALUE_PARTS % ITEMS == 0 || i < KEYS / 2 * VALUE_PARTS) {
      uint low[VECTOR / 2], high[VECTOR / 2];
      const int key = first + KEY_OF(pair, 0), other = first + KEY_OF(pair, 1), d = part * VECTOR;
      load_words_of(x + ((uint)key * (uint)token + (uint)d), key < count && d < size, low);
      load_words_of(x + ((uint)other * (uint)token + (uint)d), other < count && d < size, high);
      UNROLLED
      for (int e = 0; e < VECTOR; ++e) {
        const uint word = e % 2 == 0 ? (low[e / 2] & 0xFFFF) | high[e / 2] << 16 : low[e / 2] >> 16 | (high[e / 2] & 0xFFFF0000);
        *(__local uint *)(to + pair / 16 * (WIDTH * SLICE_ROW) + PLACE(e * VALUE_PARTS + part, pair % 16 / 4, SLICE_ROW) + pair % 4 * 4) = word;
      }
    }
  }
}
#define BRING_VALUES(to, x, token, first, count, size) bring_values(to, x, token, first, count, size, id);
#define LOAD_VALUES(values, step, group, f) \
  load_fragments_b((values) + (step) / 2 * (WIDTH * SLICE_ROW) + (group) * (16 * SLICE_ROW), (step) % 2, f, lane, warp);

#endif

// Results leave by way of local memory that has TILE_M rows: row `row` there, whose sums, row s of fragment i, are all to be
// multiplied; and, after a barrier, the work-group's rows of those there are.
#define PUT_ROW(to, row, factor)                                                                                                \
  UNROLLED for (int g = 0; g < GROUPS; ++g)                                                                                     \
    UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)                                                                              \
      UNROLLED for (int r = 0; r < SUMS; ++r)                                                                                   \
        if (r / (SUMS / SUM_ROWS) == s) {                                                                                       \
          const int at = row, d = ELEMENT_OF(g * 16 + j * FRAGMENT_COLUMNS + SUM_COLUMN(r, lane));                              \
          *(__local element *)((to) + d / SLICE * (TILE_M * SLICE_ROW) + PLACE(at, d % SLICE / CHUNK, SLICE_ROW) +              \
                               d % CHUNK * ELEMENT_BYTES) = (element)unit_narrow(sums[g][i][j][r] * (factor), 0.0f);            \
        }
#define STORE_ROWS(from, results, token, rows, size)                                                                            \
  UNROLLED for (int slice = 0; slice < SLICES(WIDTH); ++slice)                                                                  \
    for (int n = id; n < TILE_M * (SLICE / CHUNK); n += ITEMS) {                                                                \
      const int row = n / (SLICE / CHUNK), part = n % (SLICE / CHUNK), d = slice * SLICE + part * CHUNK;                        \
      const int count = min(WIDTH, (size) - start) - d;                                                                         \
      if (firstOfGroup + row < (rows) && count > 0) {                                                                           \
        const uint4 words = *(__local const uint4 *)((from) + slice * (TILE_M * SLICE_ROW) + PLACE(row, part, SLICE_ROW));      \
        const uint chunk[4] = {words.x, words.y, words.z, words.w};                                                             \
        store_chunk(chunk, (results) + ((uint)(firstOfGroup + row) * (uint)(token) + (uint)d), count);                          \
      }                                                                                                                         \
    }
#endif
