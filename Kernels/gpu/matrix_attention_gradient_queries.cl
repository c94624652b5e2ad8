// The gradient of attention with respect to q on matrix units,  dq = scale g k  with  g = w (dy v^T - delta),  w the softmax and delta the
// sum of dy y over the head's row (matrix_attention_gradient.h): rows are queries, and keys and values pass by. What
// attention_gradient_queries.cl computes but for g, which is rounded to 16 bits, and so is what it leaves for the others:
//     statistics (image, head, query)  at  (image heads + head) queries + query, the logarithm of each row's sum of exponentials,
//                                      then all deltas.
//
// As in the forward pass each row's greatest and total are those of the columns so far, and what was summed before shrinks where the
// greatest grows. Rows are divided by their totals at the end.
#define SIDES 2
#define STATISTICS 0
#include "gpu/matrix_attention_gradient.h"

// Deltas in registers, or where a lane has sums of many rows in local memory.
#if SUM_ROWS > 2
#define DELTA_MEMORY __local float deltas[TILE_M];
#define DELTA(i, s) deltas[ROW_OF(i, s) - firstOfGroup]
#else
#define DELTA_MEMORY float deltas[FRAGMENTS_M][SUM_ROWS];
#define DELTA(i, s) deltas[i][s]
#endif

MATRIX_KERNEL void matrix_attention_gradient_queries(
    __global const element *restrict q, __global const element *restrict k, __global const element *restrict v,
    __global const float *restrict mask, __global const element *restrict y, __global const element *restrict dy,
    __global float *restrict statistics, __global element *restrict dx, const GraftAttentionGradientParams p) {
  GRADIENT_MEMORY
  DELTA_MEMORY
  FIND_PLACE(p.forward, p.forward.queries)
  q += head_of(p.forward.q, image, head);
  k += head_of(p.forward.k, image, head);
  v += head_of(p.forward.v, image, head);
  y += head_of(p.forward.y, image, head);
  dy += head_of(p.forward.y, image, head);
  dx += head_of(p.dq, image, head) + start;
  mask += (size_t)(image % (uint)p.forward.maskImages) * p.forward.maskImage + (size_t)head * p.forward.maskHead;

  // Sides: scores from queries and keys, slopes from dy and values.
#define BRING_BLOCK(to, first)                                                                    \
  BRING_COLUMNS(to, 0, k, p.forward.k.token, first, p.forward.keys, p.forward.size)               \
  BRING_COLUMNS(to, 1, v, p.forward.v.token, first, p.forward.keys, p.forward.size)               \
  BRING_ACROSS(to, k, p.forward.k.token, first, p.forward.keys, p.forward.size)
  BRING_ROWS(0, q, p.forward.q.token, p.forward.queries, p.forward.size)
  BRING_ROWS(1, dy, p.forward.y.token, p.forward.queries, p.forward.size)
  BRING_BLOCK(columns, 0)
  COPY_COMMIT

  // Deltas, by all lanes that have sums of the row.
  if (computes) {
    const int part = lane % ROW_LANES_END / ROW_LANES_FIRST, shares = ROW_LANES_END / ROW_LANES_FIRST;
    UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
      UNROLLED for (int s = 0; s < SUM_ROWS; ++s) {
        const int row = ROW_OF(i, s);
        float delta = 0.0f;
        _Pragma("unroll 1") for (int d = part * VECTOR; d < (row < p.forward.queries ? p.forward.size : 0); d += shares * VECTOR) {
          float forward[VECTOR], upstream[VECTOR];
          load_elements(y + ((uint)row * (uint)p.forward.y.token + (uint)d), forward, VECTOR);
          load_elements(dy + ((uint)row * (uint)p.forward.y.token + (uint)d), upstream, VECTOR);
          _Pragma("unroll") for (int e = 0; e < VECTOR; ++e) delta = MULTIPLY_ADD(forward[e], upstream[e], delta);
        }
        OVER_ROW(delta, ADDED)
        if (SUM_ROWS <= 2 || SUM_COLUMN(0, lane) == 0) DELTA(i, s) = delta;
      }
  }

  float sums[GROUPS][FRAGMENTS_M][FRAGMENTS_N][SUMS], scores[AT_ONCE][FRAGMENTS_M][FRAGMENTS_N][SUMS];
  float greatest[FRAGMENTS_M][SUM_ROWS], totals[FRAGMENTS_M][SUM_ROWS];
  UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
    // The least number there is, and not -infinity: a block may be masked as a whole.
    UNROLLED for (int s = 0; s < SUM_ROWS; ++s) greatest[i][s] = -3.402823466e38f, totals[i][s] = 0.0f;
  CLEAR_SUMS
  ROWS_MEMORY
  Fragments f;
  for (int column = 0; column < p.forward.keys; column += KEYS) {
    const int left = p.forward.keys - column;
    __local uchar *block = BLOCK_AT(column);
    BEGIN_BLOCK
    KEEP_ROWS
    if (computes) {
      EACH_STEP(first, AT_ONCE) {
        float next[FRAGMENTS_M][SUM_ROWS], slopes[AT_ONCE][FRAGMENTS_M][FRAGMENTS_N][SUMS];
        MULTIPLY_SIDE(0, block, scores)
        UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
          UNROLLED for (int s = 0; s < SUM_ROWS; ++s) next[i][s] = greatest[i][s];
        UNROLLED for (int n = 0; n < AT_ONCE; ++n)
          UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
            UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j) {
              UNROLLED for (int r = 0; r < SUMS; ++r) {
                const int s = ROW_NUMBER(r), at = COLUMN_OF(n, j, r);
                float score = scores[n][i][j][r] * p.forward.scale;
                ADD_MASK(score, i, s, at, p.forward.maskQuery, p.forward.maskKey, p.forward.queries, p.forward.keys)
                scores[n][i][j][r] = score = at < p.forward.keys ? score : -INFINITY;
                next[i][s] = GREATER(next[i][s], score);
              }
              MASK_IN_ORDER
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
                  if (ROW_NUMBER(r) == s) sums[g][i][j][r] *= factor;
          }
        UNROLLED for (int n = 0; n < AT_ONCE; ++n)
          UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
            UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)
              UNROLLED for (int r = 0; r < SUMS; ++r) {
                const int s = ROW_NUMBER(r);
                const float weight = POWER_OF_2((scores[n][i][j][r] - greatest[i][s]) * LOG2_E);
                scores[n][i][j][r] = weight;
                totals[i][s] += weight;
              }
        MULTIPLY_SIDE(1, block, slopes)
        UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
          UNROLLED for (int s = 0; s < SUM_ROWS; ++s) {
            const float delta = DELTA(i, s);
            UNROLLED for (int n = 0; n < AT_ONCE; ++n)
              UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)
                UNROLLED for (int r = 0; r < SUMS; ++r)
                  if (ROW_NUMBER(r) == s) scores[n][i][j][r] *= slopes[n][i][j][r] - delta;
          }
        ADD_WEIGHTED(scores, block)
      }
    }
    END_BLOCK
  }

  LOCAL_BARRIER;
  if (computes) {
    UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
      UNROLLED for (int s = 0; s < SUM_ROWS; ++s) {
        OVER_ROW(totals[i][s], ADDED)
        const int query = ROW_OF(i, s);
        const float factor = p.forward.scale / totals[i][s];
        if (start == 0 && SUM_COLUMN(0, lane) == 0 && query < p.forward.queries) {
          const size_t at = ((size_t)image * p.forward.heads + head) * p.forward.queries + query;
          statistics[at] = greatest[i][s] + log(totals[i][s]);
          statistics[(size_t)p.forward.batch * p.forward.heads * p.forward.queries + at] = DELTA(i, s);
        }
        PUT_ROW(rows, query - firstOfGroup, factor)
      }
  }
  LOCAL_BARRIER;
  STORE_ROWS(rows, dx, p.dq.token, p.forward.queries, p.forward.size)
}
