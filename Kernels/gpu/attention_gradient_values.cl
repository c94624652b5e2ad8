// The gradient of attention with respect to v,  dv = w^T dy,  w the softmax: rows are keys here, and queries pass by.
#include "gpu/attention_tile.h"

__kernel ATTENTION_GROUP void attention_gradient_values(
    __global const element *restrict q, __global const element *restrict k, __global const float *restrict mask,
    __global const element *restrict dy, __global const float *restrict statistics, __global element *restrict dx,
    const GraftAttentionGradientParams p) {
  const GraftAttentionParams f = p.forward;
  __local float pool[POOL] __attribute__((aligned(16))), weights[TILE * WEIGHT_PITCH] __attribute__((aligned(16)));
  Place place;
  find_place(f, f.keys, &place);
  int start = (int)place.part * WIDTH, tx = get_local_id(0) % LANES;
  q += head_of(f.q, place);
  k += head_of(f.k, place);
  dy += head_of(f.y, place);
  mask += (size_t)(place.image % (uint)f.maskImages) * f.maskImage + (size_t)place.head * f.maskHead;
  statistics += ((size_t)place.image * f.heads + place.head) * f.queries;
  SUMS(sums)
  for (int query = 0; query < f.queries; query += COLUMNS) {
    float scores[4][4];
    compute_scores(k, f.k.token, place.first, f.keys, q, f.q.token, query, f.queries, f.size, pool, scores);
    finish_scores(scores, f, mask, f.maskKey, f.maskQuery, place.first, f.keys, query, f.queries);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      int column = query + tx + j * LANES;
      float logarithm = column < f.queries ? statistics[column] : 0.0f;
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[i][j] = exp(scores[i][j] - logarithm);
    }
    put_weights(scores, weights);
    add_weighted(dy, f.y.token, query, f.queries, start, f.size, pool, weights, sums);
  }
  float ones[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) ones[i] = 1.0f;
  store_rows(sums, ones, dx + head_of(p.dv, place), p.dv.token, place.first, f.keys, start, f.size);
}
