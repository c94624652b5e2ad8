// Attention on matrix units:  y = softmax(scale q k^T + mask) v  for each head, in the formats of 16 bits.
//
// As in attention.cl no matrix of scores lies in global memory (Dao et al., "FlashAttention", 2022): a work-group takes TILE_M queries
// of a head, a warp WARP_ROWS of them, and lets the keys and values pass by in blocks of KEYS. Both products run on the unit, with
// float32 sums:
//
//     scores = q k^T         q and k along k; 16 keys at a time
//     sums  += weights v     weights = exp(scores − greatest so far), rounded to 16 bits, straight from the registers that the scores
//                            lie in (matrix_attention.h); v across k
//
// Everything else is float32: scale and mask, the greatest, the total of the weights before they are rounded, and the one division.
// Keys are copied while the values are multiplied and the other way around, with a barrier before each product. Sums grow in the
// order of blocks that begin at multiples of KEYS: a row's result depends neither on the other rows nor on how many a warp has.
//
// What a multiprocessor does for each score of a head of 64: 256 operations on the unit (0.1 of a cycle on sm_90, 0.125 on sm_80), 16
// bytes of local memory for each 16 queries of a warp (0.125), an exponential (0.06) and about eight other instructions (0.06).
//
// Work-groups: index = ((image heads + head) parts + part) blocks + block. VECTOR: what every extent, stride and offset of q, k and v
// is a multiple of; VECTOR_Y of y.
#include "gpu/matrix_attention.h"

MATRIX_KERNEL void matrix_attention(
    __global const element *restrict q, __global const element *restrict k, __global const element *restrict v,
    __global const float *restrict mask, __global element *restrict y, const GraftAttentionParams p) {
  __local uchar queries[SLICES(HEAD) * TILE_M * SLICE_ROW] __attribute__((aligned(128)));
  __local uchar keys[SLICES(HEAD) * KEYS * SLICE_ROW] __attribute__((aligned(128)));
  __local uchar values[VALUE_BYTES] __attribute__((aligned(128)));
  EXCHANGE_MEMORY
  FIND_PLACE(p, p.queries)
  q += head_of(p.q, image, head);
  k += head_of(p.k, image, head);
  v += head_of(p.v, image, head) + start;
  y += head_of(p.y, image, head) + start;
  mask += (size_t)(image % (uint)p.maskImages) * p.maskImage + (size_t)head * p.maskHead;

  BRING(queries, TILE_M, SLICES(HEAD), q, p.q.token, firstOfGroup, p.queries, p.size)
  BRING(keys, KEYS, SLICES(HEAD), k, p.k.token, 0, p.keys, p.size)
  COPY_COMMIT

  float sums[GROUPS][FRAGMENTS_M][FRAGMENTS_N][SUMS], greatest[FRAGMENTS_M][SUM_ROWS], totals[FRAGMENTS_M][SUM_ROWS];
  UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i) {
    // The least number there is, and not -infinity: a block may be masked as a whole.
    UNROLLED for (int s = 0; s < SUM_ROWS; ++s) greatest[i][s] = -3.402823466e38f, totals[i][s] = 0.0f;
    UNROLLED for (int g = 0; g < GROUPS; ++g)
      UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)
        UNROLLED for (int r = 0; r < SUMS; ++r) sums[g][i][j][r] = 0.0f;
  }
#if KEEPS_QUERIES
  uint kept[STEPS][FRAGMENTS_M][WORDS_A];
#endif
#if HAS_MASK
  uint maskRow[FRAGMENTS_M][SUM_ROWS];
#endif
  float scores[KEY_STEPS][FRAGMENTS_M][FRAGMENTS_N][SUMS], next[FRAGMENTS_M][SUM_ROWS];
  Fragments f;

  for (int key = 0; key < p.keys; key += KEYS) {
    const int left = p.keys - key;
    COPY_WAIT(0)
    LOCAL_BARRIER;
    BRING_VALUES(values, v, p.v.token, key, p.keys, p.size - start)
    COPY_COMMIT
#if KEEPS_QUERIES
    if (key == 0) {
      UNROLLED for (int step = 0; step < STEPS; ++step) {
        load_fragments_a(queries + step / 2 * (TILE_M * SLICE_ROW), step % 2, &f, lane, warp);
        UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
          UNROLLED for (int w = 0; w < WORDS_A; ++w) kept[step][i][w] = f.a[i][w];
      }
    }
#endif
#if HAS_MASK
    UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
      UNROLLED for (int s = 0; s < SUM_ROWS; ++s)
        maskRow[i][s] = (uint)ROW_OF(i, s) * (uint)p.maskQuery + (uint)(key + SUM_COLUMN(0, lane)) * (uint)p.maskKey;
#endif
    if (computes) {
      UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
        UNROLLED for (int s = 0; s < SUM_ROWS; ++s) next[i][s] = greatest[i][s];
      // Two steps of keys at a time, so that multiplications need not wait for each other; of the last block those there are.
      EACH_STEP(first, 2) {
        UNROLLED for (int g = first; g < first + 2; ++g)
          UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
            UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)
              UNROLLED for (int r = 0; r < SUMS; ++r) scores[g][i][j][r] = 0.0f;
        UNROLLED for (int step = 0; step < STEPS; ++step) {
#if KEEPS_QUERIES
          UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
            UNROLLED for (int w = 0; w < WORDS_A; ++w) f.a[i][w] = kept[step][i][w];
#else
          load_fragments_a(queries + step / 2 * (TILE_M * SLICE_ROW), step % 2, &f, lane, warp);
#endif
          UNROLLED for (int g = first; g < first + 2; ++g) {
            load_fragments_b(keys + step / 2 * (KEYS * SLICE_ROW) + g * (16 * SLICE_ROW), step % 2, &f, lane, 0);
            MULTIPLY(&f, scores[g])
          }
          IN_ORDER
        }
        UNROLLED for (int g = first; g < first + 2; ++g)
          UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
            UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j) {
              UNROLLED for (int r = 0; r < SUMS; ++r) {
                const int s = r / (SUMS / SUM_ROWS), column = key + g * 16 + j * FRAGMENT_COLUMNS + SUM_COLUMN(r, lane);
                float score = scores[g][i][j][r] * p.scale;
#if HAS_MASK
                if (ROW_OF(i, s) < p.queries && column < p.keys)
                  score += mask[maskRow[i][s] + (uint)(g * 16 + j * FRAGMENT_COLUMNS + SUM_COLUMN(r, 0)) * (uint)p.maskKey];
#endif
                scores[g][i][j][r] = score = column < p.keys ? score : -INFINITY;
                next[i][s] = GREATER(next[i][s], score);
              }
#if HAS_MASK
              IN_ORDER
#endif
            }
      }
      UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
        UNROLLED for (int s = 0; s < SUM_ROWS; ++s) {
          OVER_ROW(next[i][s], GREATER)
          const float factor = POWER_OF_2((greatest[i][s] - next[i][s]) * LOG2_E);
          greatest[i][s] = next[i][s];
          totals[i][s] *= factor;
          UNROLLED for (int g = 0; g < GROUPS; ++g)
            UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)
              UNROLLED for (int r = 0; r < SUMS; ++r)
                if (r / (SUMS / SUM_ROWS) == s) sums[g][i][j][r] *= factor;
        }
    }
    COPY_WAIT(0)
    LOCAL_BARRIER;
    if (left > KEYS) BRING(keys, KEYS, SLICES(HEAD), k, p.k.token, key + KEYS, p.keys, p.size)
    COPY_COMMIT
    if (computes) {
      EACH_STEP(step, 1) {
        UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
          UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)
            UNROLLED for (int r = 0; r < SUMS; ++r) {
              const int s = r / (SUMS / SUM_ROWS);
              const float weight = POWER_OF_2((scores[step][i][j][r] - greatest[i][s]) * LOG2_E);
              scores[step][i][j][r] = weight;
              totals[i][s] += weight;
            }
        PUT_WEIGHTS(scores[step], &f, lane)
        UNROLLED for (int g = 0; g < GROUPS; ++g) {
          LOAD_VALUES(values, step, g, &f)
          MULTIPLY(&f, sums[g])
        }
        IN_ORDER
      }
    }
  }

  // Results by way of the queries' memory, where each warp has as many rows.
  LOCAL_BARRIER;
  if (computes) {
    UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
      UNROLLED for (int s = 0; s < SUM_ROWS; ++s) {
        OVER_ROW(totals[i][s], ADDED)
        const float factor = 1.0f / totals[i][s];
        PUT_ROW(queries, ROW_OF(i, s) - firstOfGroup, factor)
      }
  }
  LOCAL_BARRIER;
  STORE_ROWS(queries, y, p.y.token, p.queries, p.size)
}
