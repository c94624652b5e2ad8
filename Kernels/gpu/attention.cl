// Attention:  y = softmax(scale q k^T + mask) v  for each head.
#include "gpu/attention_tile.h"

__kernel ATTENTION_GROUP void attention(
    __global const element *restrict q, __global const element *restrict k, __global const element *restrict v,
    __global const float *restrict mask, __global element *restrict y, const GraftAttentionParams p) {
  __local float pool[POOL] __attribute__((aligned(16))), weights[TILE * WEIGHT_PITCH] __attribute__((aligned(16))), maxima[MAXIMA];
  Place place;
  find_place(p, p.queries, &place);
  int start = (int)place.part * WIDTH;
  q += head_of(p.q, place);
  k += head_of(p.k, place);
  v += head_of(p.v, place);
  mask += (size_t)(place.image % (uint)p.maskImages) * p.maskImage + (size_t)place.head * p.maskHead;
  ROW_STATE
  SUMS(sums)
  for (int key = 0; key < p.keys; key += COLUMNS) {
    float scores[4][4];
    compute_scores(q, p.q.token, place.first, p.queries, k, p.k.token, key, p.keys, p.size, pool, scores);
    finish_scores(scores, p, mask, p.maskQuery, p.maskKey, place.first, p.queries, key, p.keys);
    weigh(scores, greatest, totals, sums, maxima);
    put_weights(scores, weights);
    add_weighted(v, p.v.token, key, p.keys, start, p.size, pool, weights, sums);
  }
  over_lanes(totals, maxima, false);
#pragma unroll
  for (int i = 0; i < 4; ++i) totals[i] = 1.0f / totals[i];
  store_rows(sums, totals, y + head_of(p.y, place), p.y.token, place.first, p.queries, start, p.size);
}
