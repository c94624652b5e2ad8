// The inner loops of attention on GPUs, forward and backward (attention.cl, attention_gradient_*.cl: a program each, since some
// drivers count the local memory of all of a program's kernels).
//
// No matrix of scores lies in global memory (Dao et al., "FlashAttention", 2022): a work-group takes TILE rows of one side and lets
// the other side pass by in blocks of COLUMNS.
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
#ifndef GRAFT_GPU_ATTENTION_TILE_H
#define GRAFT_GPU_ATTENTION_TILE_H
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

// By pointer: inlining a function that returns a structure leaves marks that oclgrind takes for calls.
FULL void find_place(const GraftAttentionParams p, const int rows, Place *place) {
  uint blocks = ((uint)rows + TILE - 1) / TILE, parts = ((uint)p.size + WIDTH - 1) / WIDTH, index = get_group_id(0);
  uint heads = index / blocks;
  place->first = (int)(index - heads * blocks) * TILE;
  uint matrices = heads / parts;
  place->part = heads - matrices * parts;
  place->image = matrices / (uint)p.heads;
  place->head = matrices - place->image * p.heads;
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
FULL void add_weighted(
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

#endif
