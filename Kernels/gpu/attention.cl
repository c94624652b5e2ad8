// Attention:  y = softmax(scale q k^T + mask) v  for each head, and its gradients. No matrix of scores lies in global memory (Dao et
// al., "FlashAttention", 2022): a work-group takes TILE rows of one side and lets the other side pass by in blocks of COLUMNS.
//
//     scores   TILE × COLUMNS, in steps of CHUNK along the head's size from copies of both sides in local memory
//     weights  the scores' exponentials, in local memory:  row WEIGHT_PITCH + column
//     sums     TILE × WIDTH in registers, weights times rows of the other side, VALUE_ROWS of them in local memory at a time
//
// Work-item (tx, ty) of LANES × ROW_LANES owns rows ty 4 + i, columns tx + j LANES of the scores, and of the sums the elements
// (tx + g LANES) VALUES + e. Rows of local memory are read four numbers at a time along the sum, as they lie in global memory: nothing
// is transposed. Heads longer than WIDTH are cut into parts that compute the same scores.
//
// Sums are float32 and grow in the order of blocks that begin at multiples of COLUMNS: a row's result depends neither on the other
// rows nor on TILE. Operands lie as GraftHeads says; VECTOR 4 or 8 needs every extent, stride and offset to be a multiple of it.
// Work-groups: index = ((image heads + head) parts + part) blocks + block.
#include "gpu/activation.h"

// Tunables; AttentionTile (Sources/GraftGraph/Lowering/AttentionTile.swift) sets them.
#ifndef LANES
#define LANES 16     // work-items side by side
#endif
#ifndef ROW_LANES
#define ROW_LANES 8  // and above each other
#endif
#ifndef VALUES
#define VALUES 4     // neighbouring elements of the sums: 1, 2 or 4
#endif
#ifndef GROUPS
#define GROUPS 1     // and how many such: VALUES GROUPS LANES is the head's size or more
#endif
#ifndef VECTOR
#define VECTOR 1     // elements a load takes
#endif
#define ITEMS (LANES * ROW_LANES)
#define TILE (4 * ROW_LANES)
#define COLUMNS (4 * LANES)
#define CHUNK 32
#define PITCH (CHUNK + 4)
#define WEIGHT_PITCH (COLUMNS + 4)
#define WIDTH (VALUES * GROUPS * LANES)
#define SIDES ((TILE + COLUMNS) * PITCH)
#define VALUE_ROWS (COLUMNS * WIDTH <= 4096 ? COLUMNS : 4096 / WIDTH / 4 * 4)
#define POOL (SIDES > VALUE_ROWS * WIDTH ? SIDES : VALUE_ROWS * WIDTH)
#define MAXIMA (TILE * (LANES + 1))
// Weights of a row that are loaded at once: where sums are many, registers are few.
#if VALUES * GROUPS > 5
#define WEIGHTS 2
#else
#define WEIGHTS 4
#endif
#define ATTENTION_GROUP __attribute__((reqd_work_group_size(ITEMS, 1, 1)))
#define FULL static inline __attribute__((always_inline))

// The head, part and block of a work-group.
typedef struct {
  uint image, head, part;
  int first;
} Place;

FULL Place place_of(const GraftAttentionParams p, const int rows) {
  uint blocks = ((uint)rows + TILE - 1) / TILE, parts = ((uint)p.size + WIDTH - 1) / WIDTH, index = get_group_id(0);
  Place place;
  uint heads = index / blocks;
  place.first = (int)(index - heads * blocks) * TILE;
  uint matrices = heads / parts;
  place.part = heads - matrices * parts;
  place.image = matrices / (uint)p.heads;
  place.head = matrices - place.image * p.heads;
  return place;
}

FULL size_t head_of(const GraftHeads lies, const Place place) {
  return (size_t)place.image * lies.image + (size_t)place.head * lies.head + lies.offset;
}

// `rows` rows from `first` on and `columns` elements from `start` on into local memory; zeros beyond the last of `count` and `size`.
FULL void bring(
    __global const element *x, const int token, int first, int count, int start, int size, __local float *to, const int rows, const int columns,
    const int pitch) {
#pragma unroll 1
  for (int i = get_local_id(0); i < rows * (columns / VECTOR); i += ITEMS) {
    int row = i / (columns / VECTOR), d = i % (columns / VECTOR) * VECTOR;
    float values[VECTOR];
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) values[e] = 0.0f;
    if (first + row < count && start + d < size) load_elements(x + (uint)(first + row) * token + start + d, values, VECTOR);
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) to[row * pitch + d + e] = values[e];
  }
}

// scores[i][j] += a step of CHUNK, for an item's first COUNT columns. A macro: compilers unroll a shared function's loops before
// they know its arguments, and arrays would lie in memory.
#define MULTIPLY(COUNT)                                                                                               \
  FULL void multiply_##COUNT(__local const float *a, __local const float *b, float scores[4][4]) {                    \
    a += get_local_id(0) / LANES * 4 * PITCH;                                                                         \
    b += get_local_id(0) % LANES * PITCH;                                                                             \
    _Pragma("unroll 1") for (int d = 0; d < CHUNK; d += 4) {                                                          \
      float4 right[COUNT];                                                                                            \
      _Pragma("unroll") for (int j = 0; j < COUNT; ++j) right[j] = *(__local const float4 *)(b + j * LANES * PITCH + d); \
      _Pragma("unroll") for (int i = 0; i < 4; ++i) {                                                                 \
        float4 left = *(__local const float4 *)(a + i * PITCH + d);                                                   \
        _Pragma("unroll") for (int j = 0; j < COUNT; ++j) {                                                           \
          float sum = MULTIPLY_ADD(left.x, right[j].x, scores[i][j]);                                                 \
          sum = MULTIPLY_ADD(left.y, right[j].y, sum);                                                                \
          sum = MULTIPLY_ADD(left.z, right[j].z, sum);                                                                \
          scores[i][j] = MULTIPLY_ADD(left.w, right[j].w, sum);                                                       \
        }                                                                                                             \
      }                                                                                                               \
    }                                                                                                                 \
  }
MULTIPLY(4)
MULTIPLY(1)

FULL void clear(float scores[4][4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) scores[i][j] = 0.0f;
  }
}

// The scores of a tile of a and a block of b, both rows of `size` elements.
FULL void compute_scores(
    __global const element *a, const int tokenA, int firstA, int countA, __global const element *b, const int tokenB, int firstB, int countB,
    int size, __local float *pool, float scores[4][4]) {
  clear(scores);
  for (int start = 0; start < size; start += CHUNK) {
    barrier(CLK_LOCAL_MEM_FENCE);
    bring(a, tokenA, firstA, countA, start, size, pool, TILE, CHUNK, PITCH);
    bring(b, tokenB, firstB, countB, start, size, pool + TILE * PITCH, COLUMNS, CHUNK, PITCH);
    barrier(CLK_LOCAL_MEM_FENCE);
    // The last block's few columns are each item's first.
    if (countB - firstB > LANES) multiply_4(pool, pool + TILE * PITCH, scores);
    else multiply_1(pool, pool + TILE * PITCH, scores);
  }
}

// sums += weights times the block's rows of x.
FULL void mix(
    __global const element *x, const int token, int first, int count, int start, int size, __local float *pool, __local const float *weights,
    float sums[4][VALUES * GROUPS]) {
  int tx = get_local_id(0) % LANES, ty = get_local_id(0) / LANES, left = min(COLUMNS, count - first);
  weights += ty * 4 * WEIGHT_PITCH;
  for (int row = 0; row < left; row += VALUE_ROWS) {
    barrier(CLK_LOCAL_MEM_FENCE);
    bring(x, token, first + row, count, start, size, pool, VALUE_ROWS, WIDTH, WIDTH);
    barrier(CLK_LOCAL_MEM_FENCE);
    int end = min(VALUE_ROWS, left - row);
#pragma unroll 1
    for (int k = 0; k < end; k += WEIGHTS) {
      float w[4][WEIGHTS];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#if WEIGHTS == 4
        float4 some = *(__local const float4 *)(weights + i * WEIGHT_PITCH + row + k);
        w[i][2] = some.z, w[i][3] = some.w;
#else
        float2 some = *(__local const float2 *)(weights + i * WEIGHT_PITCH + row + k);
#endif
        w[i][0] = some.x, w[i][1] = some.y;
      }
#pragma unroll
      for (int s = 0; s < WEIGHTS; ++s) {
#pragma unroll
        for (int g = 0; g < GROUPS; ++g) {
          __local const float *from = pool + (k + s) * WIDTH + (tx + g * LANES) * VALUES;
          float values[VALUES];
#if VALUES == 4
          float4 v = *(__local const float4 *)from;
          values[0] = v.x, values[1] = v.y, values[2] = v.z, values[3] = v.w;
#elif VALUES == 2
          float2 v = *(__local const float2 *)from;
          values[0] = v.x, values[1] = v.y;
#else
          values[0] = *from;
#endif
#pragma unroll
          for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int e = 0; e < VALUES; ++e) sums[i][g * VALUES + e] = MULTIPLY_ADD(w[i][s], values[e], sums[i][g * VALUES + e]);
          }
        }
      }
    }
  }
}

FULL void put_weights(const float scores[4][4], __local float *weights) {
  weights += get_local_id(0) / LANES * 4 * WEIGHT_PITCH + get_local_id(0) % LANES;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) weights[i * WEIGHT_PITCH + j * LANES] = scores[i][j];
  }
}

// The sums (greatest) of each row's numbers over the row's work-items, for each of them.
FULL void over_lanes(float values[4], __local float *scratch, const bool greatest) {
  int tx = get_local_id(0) % LANES, ty = get_local_id(0) / LANES;
  scratch += ty * 4 * (LANES + 1);
  barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
  for (int i = 0; i < 4; ++i) scratch[i * (LANES + 1) + tx] = values[i];
  barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[i] = scratch[i * (LANES + 1)];
    for (int t = 1; t < LANES; ++t) {
      float other = scratch[i * (LANES + 1) + t];
      values[i] = greatest ? (other > values[i] ? other : values[i]) : values[i] + other;
    }
  }
}

// Scaled, masked, -infinity beyond the last row or column; strides are the mask's along both.
FULL void finish_scores(
    float scores[4][4], const GraftAttentionParams p, __global const float *mask, int maskRow, int maskColumn, int firstRow, int rows,
    int firstColumn, int columns) {
  int tx = get_local_id(0) % LANES, ty = get_local_id(0) / LANES;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    int row = firstRow + ty * 4 + i;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      int column = firstColumn + tx + j * LANES;
      bool exists = row < rows && column < columns;
      float score = scores[i][j] * p.scale;
      if (p.hasMask && exists) score += mask[(uint)row * maskRow + (uint)column * maskColumn];
      scores[i][j] = column < columns ? score : -INFINITY;
    }
  }
}

// From scores to the exponentials of what they are above each row's greatest so far; totals are of an item's own columns.
FULL void weigh(float scores[4][4], float greatest[4], float totals[4], float sums[4][VALUES * GROUPS], __local float *maxima) {
  float next[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    next[i] = greatest[i];
#pragma unroll
    for (int j = 0; j < 4; ++j) next[i] = scores[i][j] > next[i] ? scores[i][j] : next[i];
  }
  over_lanes(next, maxima, true);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float factor = exp(greatest[i] - next[i]), total = 0.0f;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      scores[i][j] = exp(scores[i][j] - next[i]);
      total += scores[i][j];
    }
    totals[i] = MULTIPLY_ADD(totals[i], factor, total);
    greatest[i] = next[i];
#pragma unroll
    for (int e = 0; e < VALUES * GROUPS; ++e) sums[i][e] *= factor;
  }
}

FULL void store_rows(
    float sums[4][VALUES * GROUPS], const float factors[4], __global element *y, const int token, int firstRow, int rows, int start, int size) {
  int tx = get_local_id(0) % LANES, ty = get_local_id(0) / LANES;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    int row = firstRow + ty * 4 + i;
    if (row < rows) {
#pragma unroll
      for (int g = 0; g < GROUPS; ++g) {
#pragma unroll
        for (int e = 0; e < VALUES; ++e) {
          int d = start + (tx + g * LANES) * VALUES + e;
          if (d < size) y[(uint)row * token + d] = narrow(sums[i][g * VALUES + e] * factors[i]);
        }
      }
    }
  }
}

// The greatest score begins at the least number there is, and not at -infinity: a block may be masked as a whole.
#define ROW_STATE                                                     \
  float greatest[4], totals[4];                                       \
  _Pragma("unroll") for (int i = 0; i < 4; ++i) greatest[i] = -3.402823466e38f, totals[i] = 0.0f;
#define SUMS(sums)                                                    \
  float sums[4][VALUES * GROUPS];                                     \
  _Pragma("unroll") for (int i = 0; i < 4; ++i) {                     \
    _Pragma("unroll") for (int e = 0; e < VALUES * GROUPS; ++e) sums[i][e] = 0.0f; \
  }

__kernel ATTENTION_GROUP void attention(
    __global const element *restrict q, __global const element *restrict k, __global const element *restrict v,
    __global const float *restrict mask, __global element *restrict y, const GraftAttentionParams p) {
  __local float pool[POOL] __attribute__((aligned(16))), weights[TILE * WEIGHT_PITCH] __attribute__((aligned(16))), maxima[MAXIMA];
  Place place = place_of(p, p.queries);
  int start = (int)place.part * WIDTH;
  q += head_of(p.q, place);
  k += head_of(p.k, place);
  v += head_of(p.v, place);
  mask += (size_t)place.image * p.maskImage + (size_t)place.head * p.maskHead;
  ROW_STATE
  SUMS(sums)
  for (int key = 0; key < p.keys; key += COLUMNS) {
    float scores[4][4];
    compute_scores(q, p.q.token, place.first, p.queries, k, p.k.token, key, p.keys, p.size, pool, scores);
    finish_scores(scores, p, mask, p.maskQuery, p.maskKey, place.first, p.queries, key, p.keys);
    weigh(scores, greatest, totals, sums, maxima);
    put_weights(scores, weights);
    mix(v, p.v.token, key, p.keys, start, p.size, pool, weights, sums);
  }
  over_lanes(totals, maxima, false);
#pragma unroll
  for (int i = 0; i < 4; ++i) totals[i] = 1.0f / totals[i];
  store_rows(sums, totals, y + head_of(p.y, place), p.y.token, place.first, p.queries, start, p.size);
}

// dq = scale g k with g = w (dy v^T - delta), w the softmax and delta = sum over d of dy y; and for the other kernel the logarithm
// of each row's sum of exponentials and its delta:
//     statistics (image, head, query)  at  (image heads + head) queries + query,  then all deltas.
__kernel ATTENTION_GROUP void attention_gradient_queries(
    __global const element *restrict q, __global const element *restrict k, __global const element *restrict v,
    __global const float *restrict mask, __global const element *restrict y, __global const element *restrict dy,
    __global float *restrict statistics, __global element *restrict dx, const GraftAttentionGradientParams p) {
  const GraftAttentionParams f = p.forward;
  __local float pool[POOL] __attribute__((aligned(16))), weights[TILE * WEIGHT_PITCH] __attribute__((aligned(16))), maxima[MAXIMA];
  Place place = place_of(f, f.queries);
  int start = (int)place.part * WIDTH, tx = get_local_id(0) % LANES, ty = get_local_id(0) / LANES;
  q += head_of(f.q, place);
  k += head_of(f.k, place);
  v += head_of(f.v, place);
  y += head_of(f.y, place);
  dy += head_of(f.y, place);
  mask += (size_t)place.image * f.maskImage + (size_t)place.head * f.maskHead;
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
    mix(k, f.k.token, key, f.keys, start, f.size, pool, weights, sums);
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

// dk = scale g^T q: rows are keys here, and queries pass by. dv has a kernel of its own: one pair of sums fits the registers, and
// twice as many work-groups share a small batch.
__kernel ATTENTION_GROUP void attention_gradient_keys(
    __global const element *restrict q, __global const element *restrict k, __global const element *restrict v,
    __global const float *restrict mask, __global const element *restrict dy, __global const float *restrict statistics,
    __global element *restrict dx, const GraftAttentionGradientParams p) {
  const GraftAttentionParams f = p.forward;
  __local float pool[POOL] __attribute__((aligned(16))), weights[TILE * WEIGHT_PITCH] __attribute__((aligned(16)));
  Place place = place_of(f, f.keys);
  int start = (int)place.part * WIDTH, tx = get_local_id(0) % LANES;
  q += head_of(f.q, place);
  k += head_of(f.k, place);
  v += head_of(f.v, place);
  dy += head_of(f.y, place);
  mask += (size_t)place.image * f.maskImage + (size_t)place.head * f.maskHead;
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
    mix(q, f.q.token, query, f.queries, start, f.size, pool, weights, sums);
  }
  float scales[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) scales[i] = f.scale;
  store_rows(sums, scales, dx + head_of(p.dk, place), p.dk.token, place.first, f.keys, start, f.size);
}

// dv = w^T dy.
__kernel ATTENTION_GROUP void attention_gradient_values(
    __global const element *restrict q, __global const element *restrict k, __global const float *restrict mask,
    __global const element *restrict dy, __global const float *restrict statistics, __global element *restrict dx,
    const GraftAttentionGradientParams p) {
  const GraftAttentionParams f = p.forward;
  __local float pool[POOL] __attribute__((aligned(16))), weights[TILE * WEIGHT_PITCH] __attribute__((aligned(16)));
  Place place = place_of(f, f.keys);
  int start = (int)place.part * WIDTH, tx = get_local_id(0) % LANES;
  q += head_of(f.q, place);
  k += head_of(f.k, place);
  dy += head_of(f.y, place);
  mask += (size_t)place.image * f.maskImage + (size_t)place.head * f.maskHead;
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
    mix(dy, f.y.token, query, f.queries, start, f.size, pool, weights, sums);
  }
  float ones[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) ones[i] = 1.0f;
  store_rows(sums, ones, dx + head_of(p.dv, place), p.dv.token, place.first, f.keys, start, f.size);
}
