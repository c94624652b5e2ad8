// The gradient of attention with respect to k on matrix units,  dk = scale g^T q  (matrix_attention_gradient_queries.cl says what g is):
// rows are keys, and queries pass by. What attention_gradient_keys.cl computes but for g, which is rounded to 16 bits.
#define SIDES 2
#define STATISTICS 2
#include "gpu/matrix_attention_gradient.h"

MATRIX_KERNEL void matrix_attention_gradient_keys(
    __global const element *restrict q, __global const element *restrict k, __global const element *restrict v,
    __global const float *restrict mask, __global const element *restrict dy, __global const float *restrict statistics,
    __global element *restrict dx, const GraftAttentionGradientParams p) {
  GRADIENT_MEMORY
  FIND_PLACE(p.forward, p.forward.keys)
  q += head_of(p.forward.q, image, head);
  k += head_of(p.forward.k, image, head);
  v += head_of(p.forward.v, image, head);
  dy += head_of(p.forward.y, image, head);
  dx += head_of(p.dk, image, head) + start;
  mask += (size_t)(image % (uint)p.forward.maskImages) * p.forward.maskImage + (size_t)head * p.forward.maskHead;
  statistics += ((size_t)image * p.forward.heads + head) * p.forward.queries;
  __global const float *deltasOfHead = statistics + (size_t)p.forward.batch * p.forward.heads * p.forward.queries;

  // Sides: scores from keys and queries, slopes from values and dy.
#define BRING_BLOCK(to, first)                                                                       \
  BRING_COLUMNS(to, 0, q, p.forward.q.token, first, p.forward.queries, p.forward.size)               \
  BRING_COLUMNS(to, 1, dy, p.forward.y.token, first, p.forward.queries, p.forward.size)              \
  BRING_ACROSS(to, q, p.forward.q.token, first, p.forward.queries, p.forward.size)                   \
  BRING_STATISTICS(to, 0, statistics, first, INFINITY)                                               \
  BRING_STATISTICS(to, 1, deltasOfHead, first, 0.0f)
  BRING_ROWS(0, k, p.forward.k.token, p.forward.keys, p.forward.size)
  BRING_ROWS(1, v, p.forward.v.token, p.forward.keys, p.forward.size)
  BRING_BLOCK(columns, 0)
  COPY_COMMIT

  float sums[GROUPS][FRAGMENTS_M][FRAGMENTS_N][SUMS], scores[AT_ONCE][FRAGMENTS_M][FRAGMENTS_N][SUMS];
  CLEAR_SUMS
  ROWS_MEMORY
  Fragments f;
  for (int column = 0; column < p.forward.queries; column += KEYS) {
    const int left = p.forward.queries - column;
    __local uchar *block = BLOCK_AT(column);
    BEGIN_BLOCK
    KEEP_ROWS
    if (computes) {
      EACH_STEP(first, AT_ONCE) {
        float logarithms[AT_ONCE][FRAGMENTS_N][SUM_COLUMNS], deltas[AT_ONCE][FRAGMENTS_N][SUM_COLUMNS];
        float slopes[AT_ONCE][FRAGMENTS_M][FRAGMENTS_N][SUMS];
        LOAD_STATISTICS(logarithms, block, 0, statistics, INFINITY)
        MULTIPLY_SIDE(0, block, scores)
        WEIGH_COLUMNS(scores, logarithms)
        LOAD_STATISTICS(deltas, block, 1, deltasOfHead, 0.0f)
        MULTIPLY_SIDE(1, block, slopes)
        UNROLLED for (int n = 0; n < AT_ONCE; ++n)
          UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
            UNROLLED for (int j = 0; j < FRAGMENTS_N; ++j)
              UNROLLED for (int r = 0; r < SUMS; ++r) scores[n][i][j][r] *= slopes[n][i][j][r] - deltas[n][j][r % SUM_COLUMNS];
        ADD_WEIGHTED(scores, block)
      }
    }
    END_BLOCK
  }

  LOCAL_BARRIER;
  if (computes) {
    UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
      UNROLLED for (int s = 0; s < SUM_ROWS; ++s) PUT_ROW(rows, ROW_OF(i, s) - firstOfGroup, p.forward.scale)
  }
  LOCAL_BARRIER;
  STORE_ROWS(rows, dx, p.dk.token, p.forward.keys, p.forward.size)
}
