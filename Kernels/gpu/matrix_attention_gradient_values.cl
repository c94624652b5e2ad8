// The gradient of attention with respect to v on matrix units,  dv = w^T dy,  w the softmax (matrix_attention_gradient.h): rows are keys,
// and queries pass by. What attention_gradient_values.cl computes but for the weights, which are rounded to 16 bits.
#define SIDES 1
#define STATISTICS 1
#include "gpu/matrix_attention_gradient.h"

MATRIX_KERNEL void matrix_attention_gradient_values(
    __global const element *restrict q, __global const element *restrict k, __global const float *restrict mask,
    __global const element *restrict dy, __global const float *restrict statistics, __global element *restrict dx,
    const GraftAttentionGradientParams p) {
  GRADIENT_MEMORY
  FIND_PLACE(p.forward, p.forward.keys)
  q += head_of(p.forward.q, image, head);
  k += head_of(p.forward.k, image, head);
  dy += head_of(p.forward.y, image, head);
  dx += head_of(p.dv, image, head) + start;
  mask += (size_t)(image % (uint)p.forward.maskImages) * p.forward.maskImage + (size_t)head * p.forward.maskHead;
  statistics += ((size_t)image * p.forward.heads + head) * p.forward.queries;

#define BRING_BLOCK(to, first)                                                                       \
  BRING_COLUMNS(to, 0, q, p.forward.q.token, first, p.forward.queries, p.forward.size)               \
  BRING_ACROSS(to, dy, p.forward.y.token, first, p.forward.queries, p.forward.size)                  \
  BRING_STATISTICS(to, 0, statistics, first, INFINITY)
  BRING_ROWS(0, k, p.forward.k.token, p.forward.keys, p.forward.size)
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
        float logarithms[AT_ONCE][FRAGMENTS_N][SUM_COLUMNS];
        LOAD_STATISTICS(logarithms, block, 0, statistics, INFINITY)
        MULTIPLY_SIDE(0, block, scores)
        WEIGH_COLUMNS(scores, logarithms)
        ADD_WEIGHTED(scores, block)
      }
    }
    END_BLOCK
  }

  LOCAL_BARRIER;
  if (computes) {
    UNROLLED for (int i = 0; i < FRAGMENTS_M; ++i)
      UNROLLED for (int s = 0; s < SUM_ROWS; ++s) PUT_ROW(rows, ROW_OF(i, s) - firstOfGroup, 1.0f)
  }
  LOCAL_BARRIER;
  STORE_ROWS(rows, dx, p.dv.token, p.forward.keys, p.forward.size)
}
