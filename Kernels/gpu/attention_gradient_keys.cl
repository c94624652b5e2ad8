// The gradient of attention with respect to k,  dk = scale g^T q  (attention_gradient_queries.cl says what g is): rows are keys here,
// and queries pass by. dv has a kernel of its own: the sums of one fit the registers, and twice as many work-groups share a small batch.
#include "gpu/attention_tile.h"

__kernel ATTENTION_GROUP void attention_gradient_keys(
    __global const element *restrict q, __global const element *restrict k, __global const element *restrict v,
    __global const float *restrict mask, __global const element *restrict dy, __global const float *restrict statistics,
    __global element *restrict dx, const GraftAttentionGradientParams p) {
  const GraftAttentionParams f = p.forward;
  __local float pool[POOL] __attribute__((aligned(16))), weights[TILE * WEIGHT_PITCH] __attribute__((aligned(16)));
  Place place;
  find_place(f, f.keys, &place);
  int start = (int)place.part * WIDTH, tx = get_local_id(0) % LANES;
  q += head_of(f.q, place);
  k += head_of(f.k, place);
  v += head_of(f.v, place);
  dy += head_of(f.y, place);
  mask += (size_t)(place.image % (uint)f.maskImages) * f.maskImage + (size_t)place.head * f.maskHead;
  statistics += ((size_t)place.image * f.heads + place.head) * f.queries;
  SUMS(sums)
  for (int query = 0; query < f.queries; query += COLUMNS) {
    float scores[4][4], slopes[4][4];
    compute_scores(k, f.k.token, place.first, f.keys, q, f.q.token, query, f.queries, f.size, pool, scores);
    compute_scores(v, f.v.token, place.first, f.keys, dy, f.y.token, query, f.queries, f.size, pool, slopes);
    finish_scores(scores, f, mask, f.maskKey, f.maskQuery, place.first, f.keys, query, f.queries);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      int column = query + tx + j * LANES;
      bool exists = column < f.queries;
      float logarithm = exists ? statistics[column] : 0.0f, delta = exists ? statistics[(size_t)f.batch * f.heads * f.queries + column] : 0.0f;
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[i][j] = exp(scores[i][j] - logarithm) * (slopes[i][j] - delta);
    }
    put_weights(scores, weights);
    add_weighted(q, f.q.token, query, f.queries, start, f.size, pool, weights, sums);
  }
  float scales[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) scales[i] = f.scale;
  store_rows(sums, scales, dx + head_of(p.dk, place), p.dk.token, place.first, f.keys, start, f.size);
}
