// Gradients that are no products: of activations, normalisations and losses, element by element or row by row. Sums are float32 and
// have a fixed order. Work-items are named at each kernel.
#include "cpu/math.h"

// The derivative of an activation, from its result where Activation.hasDerivativeOfResult says so, else from its argument.
INLINE floatv derivative_of_silu(floatv x) {
  floatv s = sigmoid_v(x);
  return s * FMAV(x, fill(1.0f) - s, fill(1.0f));
}
INLINE floatv derivative_of_gelu(floatv x) {
  floatv density = exp_factor_v(x * x * fill(-0.5f)) * fill(0.39894228f);
  return FMAV(x, density, fill(0.5f) * (fill(1.0f) + erf_v(x * fill(0.70710678f))));
}
INLINE floatv derivative_of_gelu_tanh(floatv x) {
  floatv t = tanh_v(fill(0.79788456f) * FMAV(fill(0.044715f) * x * x, x, x));
  floatv inner = fill(0.79788456f) * FMAV(fill(0.134145f) * x, x, fill(1.0f));
  return fill(0.5f) * ((fill(1.0f) + t) + x * (fill(1.0f) - t * t) * inner);
}
INLINE floatv derivative_of_hard_swish(floatv x) {
  floatv slope = FMAV(x, fill(0.33333333f), fill(0.5f));
  slope = SELECTV(slope, fill(1.0f), x >= fill(3.0f));
  return SELECTV(slope, fill(0.0f), x <= fill(-3.0f));
}
INLINE floatv where(floatv no, floatv yes, intv mask) { return SELECTV(no, yes, mask); }

#define DERIVATIVES(CASE)                                                                                                       \
  CASE(GRAFT_ACTIVATION_NONE, fill(1.0f))                                                                                       \
  CASE(GRAFT_ACTIVATION_RELU, where(fill(0.0f), fill(1.0f), x > fill(0.0f)))                                                    \
  CASE(GRAFT_ACTIVATION_CLIP, where(fill(0.0f), fill(1.0f), (x > fill(alpha)) & (x < fill(beta))))                              \
  CASE(GRAFT_ACTIVATION_LEAKY_RELU, where(fill(alpha), fill(1.0f), x > fill(0.0f)))                                             \
  CASE(GRAFT_ACTIVATION_SIGMOID, x * (fill(1.0f) - x))                                                                          \
  CASE(GRAFT_ACTIVATION_TANH, FMAV(-x, x, fill(1.0f)))                                                                          \
  CASE(GRAFT_ACTIVATION_HARD_SIGMOID, where(fill(0.0f), fill(alpha), (x > fill(0.0f)) & (x < fill(1.0f))))                      \
  CASE(GRAFT_ACTIVATION_HARD_SWISH, derivative_of_hard_swish(x))                                                                \
  CASE(GRAFT_ACTIVATION_SILU, derivative_of_silu(x))                                                                            \
  CASE(GRAFT_ACTIVATION_GELU, derivative_of_gelu(x))                                                                            \
  CASE(GRAFT_ACTIVATION_GELU_TANH, derivative_of_gelu_tanh(x))                                                                  \
  CASE(GRAFT_ACTIVATION_ERF, fill(1.12837917f) * exp_factor_v(-x * x))                                                          \
  CASE(GRAFT_ACTIVATION_EXP, x)                                                                                                 \
  CASE(GRAFT_ACTIVATION_LOG, fill(1.0f) / x)                                                                                    \
  CASE(GRAFT_ACTIVATION_SQRT, fill(0.5f) / x)                                                                                   \
  CASE(GRAFT_ACTIVATION_RECIPROCAL, -x * x)                                                                                     \
  CASE(GRAFT_ACTIVATION_NEGATE, fill(-1.0f))                                                                                    \
  CASE(GRAFT_ACTIVATION_ABSOLUTE, where(where(fill(0.0f), fill(-1.0f), x < fill(0.0f)), fill(1.0f), x > fill(0.0f)))            \
  CASE(GRAFT_ACTIVATION_ELU, where(where(fill(alpha), x + fill(alpha), x < fill(0.0f)), fill(1.0f), x > fill(0.0f)))            \
  CASE(GRAFT_ACTIVATION_SOFTPLUS, sigmoid_v(x))

// y = activation'(x) g. Work-items: x blocks of GRADIENT_ROWS rows, y blocks of GRADIENT_CHANNELS.
#define GRADIENT_ROWS 16
#define GRADIENT_CHANNELS 4096
#define GRADIENT_CASE(kind, derivative)                                                             \
  case kind:                                                                                        \
    for (graft_long row = first; row < end; ++row)                                                  \
      for (int c = firstChannel; c < endChannel; c += VW) {                                         \
        int count = min(VW, endChannel - c);                                                        \
        size_t at = (size_t)row * p.ldx + c;                                                        \
        floatv x = load_part(values + at, count);                                                   \
        store_part((derivative) * load_part(upstream + at, count), y + at, count);                  \
        (void)x;                                                                                    \
      }                                                                                             \
    break;

KERNEL3(activation_gradient, GLOBAL const element *values, GLOBAL const element *upstream, GLOBAL element *y, GraftUnaryParams) {
  graft_long first = (graft_long)ITEM_X * GRADIENT_ROWS, end = min(first + GRADIENT_ROWS, p.rows);
  int firstChannel = ITEM_Y * GRADIENT_CHANNELS, endChannel = min(firstChannel + GRADIENT_CHANNELS, p.channels);
  const float alpha = p.epilogue.alpha, beta = p.epilogue.beta;
  switch (p.epilogue.activation) { DERIVATIVES(GRADIENT_CASE) }
  (void)alpha, (void)beta;
}

// Sums over a share of the rows, a channel at a time:  y[part, 0, c] = sum of a,  y[part, 1, c] = sum of a b.
// Work-items: x parts of p.rowsPerPart rows, y blocks of SUM_CHANNELS.
#define SUM_CHANNELS 64
KERNEL3(channel_sums, GLOBAL const element *a, GLOBAL const element *b, GLOBAL float *y, GraftChannelParams) {
  graft_long first = (graft_long)ITEM_X * p.rowsPerPart, end = min(first + p.rowsPerPart, p.rows);
  int firstChannel = ITEM_Y * SUM_CHANNELS, endChannel = min(firstChannel + SUM_CHANNELS, p.channels);
  GLOBAL float *to = y + (size_t)ITEM_X * 2 * p.channels;
  for (int c = firstChannel; c < endChannel; c += VW) {
    int count = min(VW, endChannel - c);
    floatv sums = SPLAT(0.0f), products = SPLAT(0.0f);
    for (graft_long row = first; row < end; ++row) {
      floatv value = load_part(a + row * p.lda + c, count);
      sums += value;
      products = FMAV(value, load_part(b + row * p.ldb + c, count), products);
    }
    store_float_part(sums, to + c, count);
    store_float_part(products, to + p.channels + c, count);
  }
}

// Mean and sum of squared distances from it over a share of the rows, a channel at a time:  y[part, 0, c], y[part, 1, c]. Distances
// are taken from the share's first row, so that a mean far from zero costs no digits. Work-items as in channel_sums.
KERNEL2(channel_moments, GLOBAL const element *x, GLOBAL float *y, GraftChannelParams) {
  graft_long first = (graft_long)ITEM_X * p.rowsPerPart, end = min(first + p.rowsPerPart, p.rows);
  int firstChannel = ITEM_Y * SUM_CHANNELS, endChannel = min(firstChannel + SUM_CHANNELS, p.channels);
  GLOBAL float *to = y + (size_t)ITEM_X * 2 * p.channels;
  float scale = 1.0f / (float)(end - first);
  for (int c = firstChannel; c < endChannel; c += VW) {
    int count = min(VW, endChannel - c);
    floatv start = load_part(x + first * p.lda + c, count), sums = SPLAT(0.0f), squares = SPLAT(0.0f);
    for (graft_long row = first; row < end; ++row) {
      floatv d = load_part(x + row * p.lda + c, count) - start;
      sums += d;
      squares = FMAV(d, d, squares);
    }
    floatv distance = sums * SPLAT(scale);
    store_float_part(start + distance, to + c, count);
    store_float_part(MAXV(FMAV(-sums, distance, squares), SPLAT(0.0f)), to + p.channels + c, count);
  }
}

// Mean and variance from those of the shares (Chan, Golub and LeVeque, "Algorithms for Computing the Sample Variance", 1983).
// Work-items: blocks of SUM_CHANNELS.
KERNEL2(merge_moments, GLOBAL const float *parts, GLOBAL float *y, GraftChannelParams) {
  int firstChannel = ITEM_X * SUM_CHANNELS, endChannel = min(firstChannel + SUM_CHANNELS, p.channels);
  for (int c = firstChannel; c < endChannel; c += VW) {
    int count = min(VW, endChannel - c);
    floatv mean = float_part(parts + c, count), squares = float_part(parts + p.channels + c, count);
    graft_long seen = min(p.rowsPerPart, p.rows);
    for (graft_long part = 1; seen < p.rows; ++part) {
      graft_long rows = min(p.rowsPerPart, p.rows - seen);
      GLOBAL const float *from = parts + part * 2 * p.channels + c;
      float share = (float)rows / (float)(seen + rows);
      floatv d = float_part(from, count) - mean;
      squares += FMAV(d * d, SPLAT((float)seen * share), float_part(from + p.channels, count));
      mean = FMAV(d, SPLAT(share), mean);
      seen += rows;
    }
    store_float_part(mean, y + c, count);
    store_float_part(squares * SPLAT(1.0f / (float)p.rows), y + p.channels + c, count);
  }
}

// y = a scaleA[c] + b scaleB[c] + shift[c]; factors: [3, C]. Work-items: x blocks of GRADIENT_ROWS rows.
KERNEL4(channel_affine, GLOBAL const element *a, GLOBAL const element *b, GLOBAL const float *factors, GLOBAL element *y, GraftChannelParams) {
  graft_long first = (graft_long)ITEM_X * GRADIENT_ROWS, end = min(first + GRADIENT_ROWS, p.rows);
  for (graft_long row = first; row < end; ++row)
    for (int c = 0; c < p.channels; c += VW) {
      int count = min(VW, p.channels - c);
      floatv value = FMAV(load_part(b + row * p.ldb + c, count), float_part(factors + p.channels + c, count), float_part(factors + 2 * p.channels + c, count));
      store_part(FMAV(load_part(a + row * p.lda + c, count), float_part(factors + c, count), value), y + row * p.ldy + c, count);
    }
}

// The gradient of a layer normalisation with respect to its input: with g = upstream scale and xhat the normalised row,
//     dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(variance + epsilon).
// Work-items: x blocks of GRADIENT_ROWS rows.
KERNEL4(layer_norm_gradient, GLOBAL const element *x, GLOBAL const element *upstream, GLOBAL const float *scale, GLOBAL element *y, GraftLayerNormParams) {
  for (graft_long row = (graft_long)ITEM_X * GRADIENT_ROWS; row < p.rows && row < ((graft_long)ITEM_X + 1) * GRADIENT_ROWS; ++row) {
    GLOBAL const element *from = x + row * p.ldx, *g = upstream + row * p.channels;
    floatv sums[CHAINS], products[CHAINS];
    _Pragma("unroll") for (int chain = 0; chain < CHAINS; ++chain) sums[chain] = products[chain] = SPLAT(0.0f);
    FOR_CHAINS(p.channels, sums[chain] += load_part(from + at, count);)
    float mean = sum_of_chains(sums) / p.channels;
    FOR_CHAINS(p.channels, {
      floatv d = load_part(from + at, count) - SPLAT(mean);
      if (count < VW) d = first_lanes(d, count, 0.0f);
      products[chain] = FMAV(d, d, products[chain]);
    })
    float factor = 1.0f / SQRTV(SPLAT(sum_of_chains(products) / p.channels + p.epsilon)).s0;
    _Pragma("unroll") for (int chain = 0; chain < CHAINS; ++chain) sums[chain] = products[chain] = SPLAT(0.0f);
    FOR_CHAINS(p.channels, {
      floatv value = load_part(g + at, count);
      if (p.hasScale) value *= float_part(scale + at, count);
      sums[chain] += value;
      products[chain] = FMAV(value, (load_part(from + at, count) - SPLAT(mean)) * SPLAT(factor), products[chain]);
    })
    float meanOfG = sum_of_chains(sums) / p.channels, meanOfProducts = sum_of_chains(products) / p.channels;
    FOR_CHAINS(p.channels, {
      floatv value = load_part(g + at, count);
      if (p.hasScale) value *= float_part(scale + at, count);
      floatv normal = (load_part(from + at, count) - SPLAT(mean)) * SPLAT(factor);
      store_part((value - SPLAT(meanOfG) - normal * SPLAT(meanOfProducts)) * SPLAT(factor), y + row * p.ldy + at, count);
      (void)chain;
    })
  }
}
