// Gradients that are no products: of activations, normalisations and poolings. Every sum has a fixed order; work-items are named at
// each kernel.
#include "gpu/rows.h"

#ifndef VECTOR
#define VECTOR 1  // elements a work-item moves: 4 or 8 needs extents and starts to be multiples of it
#endif

// The derivative of an activation, from its result where Activation.hasDerivativeOfResult says so, else from its argument.
static inline float derivative(float x, float alpha, float beta) {
  switch (ACTIVATION) {
  case GRAFT_ACTIVATION_RELU: return x > 0.0f ? 1.0f : 0.0f;
  case GRAFT_ACTIVATION_CLIP: return x > alpha && x < beta ? 1.0f : 0.0f;
  case GRAFT_ACTIVATION_LEAKY_RELU: return x > 0.0f ? 1.0f : alpha;
  case GRAFT_ACTIVATION_SIGMOID: return x * (1.0f - x);
  case GRAFT_ACTIVATION_TANH: return MULTIPLY_ADD(-x, x, 1.0f);
  case GRAFT_ACTIVATION_HARD_SIGMOID: return x > 0.0f && x < 1.0f ? alpha : 0.0f;
  case GRAFT_ACTIVATION_HARD_SWISH: return x <= -3.0f ? 0.0f : x >= 3.0f ? 1.0f : MULTIPLY_ADD(x, 1.0f / 3.0f, 0.5f);
  case GRAFT_ACTIVATION_SILU: {
    float s = 1.0f / (1.0f + exp(-x));
    return s * MULTIPLY_ADD(x, 1.0f - s, 1.0f);
  }
  case GRAFT_ACTIVATION_GELU: return MULTIPLY_ADD(x * 0.39894228f, exp(-0.5f * x * x), 0.5f * erfc(x * -0.70710678f));
  case GRAFT_ACTIVATION_GELU_TANH: {
    float t = tanh(0.79788456f * MULTIPLY_ADD(0.044715f * x * x, x, x));
    return 0.5f * ((1.0f + t) + x * (1.0f - t * t) * 0.79788456f * MULTIPLY_ADD(0.134145f * x, x, 1.0f));
  }
  case GRAFT_ACTIVATION_ERF: return 1.12837917f * exp(-x * x);
  case GRAFT_ACTIVATION_EXP: return x;
  case GRAFT_ACTIVATION_LOG: return 1.0f / x;
  case GRAFT_ACTIVATION_SQRT: return 0.5f / x;
  case GRAFT_ACTIVATION_RECIPROCAL: return -x * x;
  case GRAFT_ACTIVATION_NEGATE: return -1.0f;
  case GRAFT_ACTIVATION_ABSOLUTE: return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f;
  case GRAFT_ACTIVATION_ELU: return x > 0.0f ? 1.0f : x < 0.0f ? x + alpha : alpha;
  case GRAFT_ACTIVATION_SOFTPLUS: return 1.0f / (1.0f + exp(-x));
  default: return 1.0f;
  }
}

// y = activation'(x) upstream. Work-items: VECTOR elements each.
__kernel void activation_gradient(
    __global const element *restrict x, __global const element *restrict upstream, __global element *restrict y, const GraftUnaryParams p) {
  size_t at = get_global_id(0) * VECTOR;
  if (at >= (size_t)p.rows * p.channels) return;
  float value[VECTOR], gradient[VECTOR];
  load_elements(x + at, value, VECTOR);
  load_elements(upstream + at, gradient, VECTOR);
  for (int e = 0; e < VECTOR; ++e) gradient[e] *= derivative(value[e], p.epilogue.alpha, p.epilogue.beta);
  store_elements(gradient, y + at, VECTOR);
}

// partial[part, 0, c] = sum of a, partial[part, 1, c] = sum of a b, over p.rowsPerPart rows. Neighbouring work-items have neighbouring
// channels and walk every SHARES-th row; the shares are added in order. Work-groups: index = part blocks + block of channels.
#define COLUMNS (ROW_SCRATCH < 32 ? ROW_SCRATCH : 32)
#define SHARES (ROW_SCRATCH / COLUMNS)
__kernel ROWS_GROUP void channel_sums(
    __global const element *restrict a, __global const element *restrict b, __global float *restrict partial, const GraftChannelParams p) {
  __local float sums[ROW_SCRATCH], products[ROW_SCRATCH];
  uint blocks = ((uint)p.channels + COLUMNS - 1) / COLUMNS, part = get_group_id(0) / blocks;
  int lane = get_local_id(0) % COLUMNS, share = get_local_id(0) / COLUMNS;
  int c = (int)(get_group_id(0) - (size_t)part * blocks) * COLUMNS + lane;
  size_t first = part * p.rowsPerPart, end = min((ulong)(first + p.rowsPerPart), (ulong)p.rows);
  float sum = 0.0f, product = 0.0f;
  if (c < p.channels) {
    for (size_t row = first + share; row < end; row += SHARES) {
      float value = widen(a[row * p.lda + c]);
      sum += value;
      product = MULTIPLY_ADD(value, widen(b[row * p.ldb + c]), product);
    }
  }
  sums[get_local_id(0)] = sum;
  products[get_local_id(0)] = product;
  barrier(CLK_LOCAL_MEM_FENCE);
  if (share == 0 && c < p.channels) {
    for (int s = 1; s < SHARES; ++s) {
      sum += sums[s * COLUMNS + lane];
      product += products[s * COLUMNS + lane];
    }
    partial[(size_t)part * 2 * p.channels + c] = sum;
    partial[((size_t)part * 2 + 1) * p.channels + c] = product;
  }
}

// Mean and sum of squared distances from it, two shares' as one (Chan, Golub and LeVeque, "Algorithms for Computing the Sample
// Variance", 1983).
static inline void merge(float *count, float *mean, float *squares, float otherCount, float otherMean, float otherSquares) {
  if (otherCount == 0.0f) return;
  float total = *count + otherCount, share = otherCount / total, d = otherMean - *mean;
  *squares += MULTIPLY_ADD(d * d, *count * share, otherSquares);
  *mean = MULTIPLY_ADD(d, share, *mean);
  *count = total;
}

// partial[part, 0, c] = mean, partial[part, 1, c] = sum of squared distances from it, over p.rowsPerPart rows. Distances are taken from
// each share's first row, so that a mean far from zero costs no digits. Work-groups and work-items as in channel_sums.
__kernel ROWS_GROUP void channel_moments(__global const element *restrict x, __global float *restrict partial, const GraftChannelParams p) {
  __local float means[ROW_SCRATCH], distances[ROW_SCRATCH];
  uint blocks = ((uint)p.channels + COLUMNS - 1) / COLUMNS, part = get_group_id(0) / blocks;
  int lane = get_local_id(0) % COLUMNS, share = get_local_id(0) / COLUMNS;
  int c = (int)(get_group_id(0) - (size_t)part * blocks) * COLUMNS + lane;
  size_t first = part * p.rowsPerPart, end = min((ulong)(first + p.rowsPerPart), (ulong)p.rows);
  float start = 0.0f, sum = 0.0f, squares = 0.0f, count = 0.0f;
  if (c < p.channels && first + share < end) {
    start = widen(x[(first + share) * p.lda + c]);
    for (size_t row = first + share; row < end; row += SHARES) {
      float d = widen(x[row * p.lda + c]) - start;
      sum += d;
      squares = MULTIPLY_ADD(d, d, squares);
      count += 1.0f;
    }
    sum /= count;
    squares = max(MULTIPLY_ADD(-sum * count, sum, squares), 0.0f);
  }
  means[get_local_id(0)] = start + sum;
  distances[get_local_id(0)] = squares;
  barrier(CLK_LOCAL_MEM_FENCE);
  if (share == 0 && c < p.channels) {
    float mean = start + sum;
    for (int s = 1; s < SHARES; ++s) {
      float others = first + s < end ? (float)((end - first - s + SHARES - 1) / SHARES) : 0.0f;
      merge(&count, &mean, &squares, others, means[s * COLUMNS + lane], distances[s * COLUMNS + lane]);
    }
    partial[(size_t)part * 2 * p.channels + c] = mean;
    partial[((size_t)part * 2 + 1) * p.channels + c] = squares;
  }
}

// Mean and variance from those of the parts. Work-items: channels.
__kernel void merge_moments(__global const float *restrict parts, __global float *restrict y, const GraftChannelParams p) {
  size_t c = get_global_id(0);
  if (c >= (size_t)p.channels) return;
  float count = 0.0f, mean = 0.0f, squares = 0.0f;
  for (graft_long seen = 0, part = 0; seen < p.rows; seen += p.rowsPerPart, ++part) {
    __global const float *from = parts + (size_t)part * 2 * p.channels + c;
    merge(&count, &mean, &squares, (float)min(p.rowsPerPart, p.rows - seen), from[0], from[p.channels]);
  }
  y[c] = mean;
  y[p.channels + c] = squares / (float)p.rows;
}

// y[i] = sum over parts of partial[part, i]. Work-items: i.
__kernel void sum_parts(__global const float *restrict partial, __global element *restrict y, const GraftReduceParams p) {
  size_t i = get_global_id(0);
  if (i >= (size_t)p.inner) return;
  float sum = 0.0f;
  for (int part = 0; part < p.length; ++part) sum += partial[(size_t)part * p.inner + i];
  y[i] = narrow(sum);
}

// y = a factors[0, c] + b factors[1, c] + factors[2, c]. Work-items: VECTOR channels of a row.
__kernel void channel_affine(
    __global const element *restrict a, __global const element *restrict b, __global const float *restrict factors,
    __global element *restrict y, const GraftChannelParams p) {
  size_t vectors = p.channels / VECTOR, index = get_global_id(0);
  if (index >= (size_t)p.rows * vectors) return;
  size_t row = index / vectors;
  int c = (int)(index - row * vectors) * VECTOR;
  float left[VECTOR], right[VECTOR], scale[VECTOR], other[VECTOR], shift[VECTOR];
  load_elements(a + row * p.lda + c, left, VECTOR);
  load_elements(b + row * p.ldb + c, right, VECTOR);
  load_floats(factors + c, scale, VECTOR);
  load_floats(factors + p.channels + c, other, VECTOR);
  load_floats(factors + 2 * p.channels + c, shift, VECTOR);
  for (int e = 0; e < VECTOR; ++e) left[e] = MULTIPLY_ADD(left[e], scale[e], MULTIPLY_ADD(right[e], other[e], shift[e]));
  store_elements(left, y + row * p.ldy + c, VECTOR);
}

// The gradient of a layer normalisation with respect to its input: with g = upstream scale and xhat the normalised row,
//     dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(variance + epsilon).
// Work-groups: ROW_COUNT rows of ROW_ITEMS work-items.
__kernel ROWS_GROUP void layer_norm_gradient(
    __global const element *restrict x, __global const element *restrict upstream, __global const float *restrict scale,
    __global element *restrict y, const GraftLayerNormParams p) {
  __local float scratch[ROW_SCRATCH];
  size_t row = row_index();
  int lane = row_lane(), channels = row < (size_t)p.rows ? p.channels : 0;
  x += row * p.ldx;
  upstream += row * p.channels;
  y += row * p.ldy;
  float total = 0.0f, squares = 0.0f, sum = 0.0f, products = 0.0f;
  for (int c = lane; c < channels; c += ROW_ITEMS) total += widen(x[c]);
  float mean = row_total(total, scratch, false) / p.channels;
  for (int c = lane; c < channels; c += ROW_ITEMS) {
    float d = widen(x[c]) - mean;
    squares = MULTIPLY_ADD(d, d, squares);
  }
  float factor = 1.0f / sqrt(row_total(squares, scratch, false) / p.channels + p.epsilon);
  for (int c = lane; c < channels; c += ROW_ITEMS) {
    float g = widen(upstream[c]) * (p.hasScale ? scale[c] : 1.0f);
    sum += g;
    products = MULTIPLY_ADD(g, (widen(x[c]) - mean) * factor, products);
  }
  sum = row_total(sum, scratch, false) / p.channels;
  products = row_total(products, scratch, false) / p.channels;
  for (int c = lane; c < channels; c += ROW_ITEMS) {
    float g = widen(upstream[c]) * (p.hasScale ? scale[c] : 1.0f);
    y[c] = narrow((g - sum - (widen(x[c]) - mean) * factor * products) * factor);
  }
}

// The gradient of a pooling with respect to the image: each element gathers from the windows it lies in, in their order; of equal
// maxima the window's first takes all. Work-items: elements of the image, channels first.
__kernel void pool_gradient(
    __global const element *restrict x, __global const element *restrict dy, __global element *restrict dx, const GraftPoolParams p) {
  size_t index = get_global_id(0);
  if (index >= (size_t)p.n * p.h * p.w * p.c) return;
  uint pixel = (uint)(index / p.c), row = pixel / p.w, n = row / p.h;
  int c = (int)(index - (size_t)pixel * p.c), h = (int)(row - n * p.h), w = (int)(pixel - row * p.w);
  x += (size_t)n * p.h * p.w * p.ldx + c;
  dy += (size_t)n * p.oh * p.ow * p.ldy + c;
  float mine = widen(x[((size_t)h * p.w + w) * p.ldx]), sum = 0.0f;
  int spanH = (p.kh - 1) * p.dilationH, spanW = (p.kw - 1) * p.dilationW;
  int firstH = max(0, (h + p.padH - spanH + p.strideH - 1) / p.strideH), firstW = max(0, (w + p.padW - spanW + p.strideW - 1) / p.strideW);
  int endH = min(p.oh, (h + p.padH) / p.strideH + 1), endW = min(p.ow, (w + p.padW) / p.strideW + 1);
  for (int oh = firstH; oh < endH; ++oh)
    for (int ow = firstW; ow < endW; ++ow) {
      int top = oh * p.strideH - p.padH, left = ow * p.strideW - p.padW, counted = 0;
      if ((h - top) % p.dilationH != 0 || (w - left) % p.dilationW != 0) continue;
      bool chosen = true;
      for (int i = 0; i < p.kh; ++i)
        for (int j = 0; j < p.kw; ++j) {
          int y = top + i * p.dilationH, z = left + j * p.dilationW;
          bool inside = y >= 0 && y < p.h && z >= 0 && z < p.w;
          counted += inside || (p.countsPadding && y < p.h + p.padEndH && z < p.w + p.padEndW);
          if (p.average || !inside || (y == h && z == w)) continue;
          float other = widen(x[((size_t)y * p.w + z) * p.ldx]);
          chosen = chosen && (y < h || (y == h && z < w) ? mine > other : mine >= other);
        }
      float upstream = widen(dy[((size_t)oh * p.ow + ow) * p.ldy]);
      if (p.average) sum = MULTIPLY_ADD(upstream, 1.0f / counted, sum);
      else if (chosen) sum += upstream;
    }
  dx[index] = narrow(sum);
}
