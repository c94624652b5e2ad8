// The gradient of attention with respect to q,  dq = scale g k  with  g = w (dy v^T - delta),  w the softmax and delta the sum of dy y
// over the head's row; and, for the other gradients, the logarithm of each row's sum of exponentials and its delta:
//     statistics (image, head, query)  at  (image heads + head) queries + query,  then all deltas.
#include "gpu/attention_tile.h"

__kernel ATTENTION_GROUP void attention_gradient_queries(
    __global const element *restrict q, __global const element *restrict k, __global const element *restrict v,
    __global const float *restrict mask, __global const element *restrict y, __global const element *restrict dy,
    __global float *restrict statistics, __global element *restrict dx, const GraftAttentionGradientParams p) {
  const GraftAttentionParams f = p.forward;
  __local float pool[POOL] __attribute__((aligned(16))), weights[TILE * WEIGHT_PITCH] __attribute__((aligned(16))), maxima[MAXIMA];
  Place place;
  find_place(f, f.queries, &place);
  int start = (int)place.part * WIDTH, tx = get_local_id(0) % LANES, ty = get_local_id(0) / LANES;
  q += head_of(f.q, place);
  k += head_of(f.k, place);
  v += head_of(f.v, place);
  y += head_of(f.y, place);
  dy += head_of(f.y, place);
  mask += (size_t)(place.image % (uint)f.maskImages) * f.maskImage + (size_t)place.head * f.maskHead;
  ROW_STATE
  SUMS(sums)
  float deltas[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    int row = place.first + ty * 4 + i;
    deltas[i] = 0.0f;
    if (row < f.queries) {
      for (int d = tx; d < f.size; d += LANES)
        deltas[i] = MULTIPLY_ADD(widen(y[(uint)row * f.y.token + d]), widen(dy[(uint)row * f.y.token + d]), deltas[i]);
    }
  }
  over_lanes(deltas, maxima, false);
  for (int key = 0; key < f.keys; key += COLUMNS) {
    float scores[4][4], slopes[4][4];
    compute_scores(q, f.q.token, place.first, f.queries, k, f.k.token, key, f.keys, f.size, pool, scores);
    compute_scores(dy, f.y.token, place.first, f.queries, v, f.v.token, key, f.keys, f.size, pool, slopes);
    finish_scores(scores, f, mask, f.maskQuery, f.maskKey, place.first, f.queries, key, f.keys);
    weigh(scores, greatest, totals, sums, maxima);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) scores[i][j] *= slopes[i][j] - deltas[i];
    }
    put_weights(scores, weights);
    add_weighted(k, f.k.token, key, f.keys, start, f.size, pool, weights, sums);
  }
  over_lanes(totals, maxima, false);
  if (place.part == 0 && tx == 0) {
    size_t at = ((size_t)place.image * f.heads + place.head) * f.queries + place.first + ty * 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (place.first + ty * 4 + i < f.queries) {
        statistics[at + i] = greatest[i] + log(totals[i]);
        statistics[(size_t)f.batch * f.heads * f.queries + at + i] = deltas[i];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) totals[i] = f.scale / totals[i];
  store_rows(sums, totals, dx + head_of(p.dq, place), p.dq.token, place.first, f.queries, start, f.size);
}
