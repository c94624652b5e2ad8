// A depthwise convolution between two pointwise ones, channels last, in one pass over the image (the inverted residual of Sandler et
// al., "MobileNetV2", 2018; without the first: the separable convolution of "MobileNets"):
//
//     t = expansion(x),  u = depthwise(t),  y = epilogue(projection(u) + residual)
//
// Only x, y and weights pass through memory. A work-item goes down the rows of its images, p.rowsPerStep rows of the result at a
// time: it computes the rows of t that are new into a ring of rows, each with its padding around it, then those rows of u, then y
// from them, all in memory of its own that stays in its core's cache. Without an expansion t is a copy of x.
//
// Scratch a work-item: a ring of p.ringRows rows of t and one of zeros, p.ringWidth pixels that lie p.ringStride apart; then
// rowsPerStep ow pixels of u. Work-items: x equal parts of the steps of all images.
#include "cpu/gemm_tile.h"

// A tile of the expansion. Its rows, consecutive pixels of x, go to the places in the ring that `place` says.
#define EXPAND_TILE(MR, NV)                                                                                                      \
  INLINE void GRAFT_JOIN(expand_tile_##MR##x, NV)(                                                                               \
      GLOBAL const element *x, GLOBAL const element *weights, GLOBAL const float *bias, GLOBAL element *ring, const int *place,  \
      int rows, int count, int lda, int channels, const GraftEpilogue epilogue) {                                                \
    GLOBAL const element *a[MR];                                                                                                 \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) a[m] = x + (size_t)(m < rows ? m : rows - 1) * lda;                           \
    TILE_ZERO(MR, NV)                                                                                                            \
    TILE_ACCUMULATE(MR, NV)                                                                                                      \
    if (is_simple(epilogue.activation) && channels >= NV * VW) {                                                                 \
      _Pragma("unroll") for (int m = 0; m < MR; ++m)                                                                             \
        if (m < rows) {                                                                                                          \
          _Pragma("unroll") for (int v = 0; v < NV; ++v)                                                                         \
            tile_store_whole(sums[m][v], bias + v * VW, 0, ring + place[m] + v * VW, epilogue);                                  \
        }                                                                                                                        \
    } else if (is_simple(epilogue.activation) && STORES_PARTS) {                                                                 \
      _Pragma("unroll") for (int m = 0; m < MR; ++m)                                                                             \
        if (m < rows) {                                                                                                          \
          _Pragma("unroll") for (int v = 0; v < NV; ++v)                                                                         \
            tile_store(sums[m][v], bias + v * VW, 0, ring + place[m] + v * VW, channels - v * VW, epilogue);                     \
        }                                                                                                                        \
    } else {                                                                                                                     \
      float kept[MR * NV * VW];                                                                                                  \
      _Pragma("unroll") for (int m = 0; m < MR; ++m)                                                                             \
        _Pragma("unroll") for (int v = 0; v < NV; ++v) STOREV_PRIVATE(sums[m][v], kept + (m * NV + v) * VW);                     \
      for (int m = 0; m < rows; ++m)                                                                                             \
        tile_finish(kept + m * NV * VW, NV * VW, bias, 0, ring + place[m], 1, 0, 0, channels, epilogue);                         \
    }                                                                                                                            \
  }

#if PANEL_VECTORS == 4
EXPAND_TILE(6, 4)
EXPAND_TILE(8, 3)
EXPAND_TILE(12, 2)
#else
EXPAND_TILE(6, 2)
#endif
EXPAND_TILE(12, 1)

// Rows h … h + count - 1 of t into the ring, from row h of an image of x.
INLINE void separable_expand(
    GLOBAL const element *x, GLOBAL const element *packed, GLOBAL const float *bias, GLOBAL element *ring, int h, int count, int ld,
    const GraftSeparableParams p) {
  const int pixels = count * p.w;
  if (!p.hasExpansion) {
    for (int row = 0; row < count; ++row) {
      GLOBAL const element *from = x + (size_t)row * p.w * p.ldx;
      GLOBAL element *to = ring + ((h + row) % p.ringRows * p.ringWidth + p.padW) * ld;
      for (int pixel = 0; pixel < p.w; ++pixel, from += p.ldx, to += ld)
        for (int c = 0; c < p.e; c += VW) move_part(from + c, to + c, min(VW, p.e - c));
    }
    return;
  }
  for (int channel = 0; channel < p.e; channel += PANEL) {
    int channels = min(PANEL, p.e - channel);
    int vectors = (channels + VW - 1) / VW, step = tile_rows(vectors);
    GLOBAL const element *weights = packed + (size_t)TAP_ROWS(p.c) * channel;
    int row = h % p.ringRows, column = 0;
    for (int pixel = 0; pixel < pixels; pixel += step) {
      int rows = min(step, pixels - pixel);
      int place[MAX_ROWS];
      for (int m = 0; m < rows; ++m) {
        place[m] = (row * p.ringWidth + p.padW + column) * ld;
        if (++column == p.w) {
          column = 0;
          if (++row == p.ringRows) row = 0;
        }
      }
      GLOBAL const element *from = x + (size_t)pixel * p.ldx;
#define EXPAND_CASE(MR, NV) \
  GRAFT_JOIN(expand_tile_##MR##x, NV)(from, weights, bias + channel, ring + channel, place, rows, p.c, p.ldx, channels, p.expansion)
      switch (vectors) {
#if PANEL_VECTORS == 4
      case 4: EXPAND_CASE(6, 4); break;
      case 3: EXPAND_CASE(8, 3); break;
      case 2: EXPAND_CASE(12, 2); break;
#else
      case 2: EXPAND_CASE(6, 2); break;
#endif
      default: EXPAND_CASE(12, 1); break;
      }
    }
  }
}

#define PIXELS_AT_ONCE 4
#define MAX_LINES 9

// ROWS rows of u, one vector of channels after the other, the kernel's extent and stride known to the compiler. Rows and pixels that
// are computed together share inputs and weights; all that a vector of channels needs fits in the cache nearest to the core.
// line[i] is the ring's row under row i of the first kernel.
#define SEPARABLE_ROWS(K, STRIDE, ROWS)                                                                                      \
  for (int ow = 0; ow < p.ow; ow += PIXELS_AT_ONCE) {                                                                        \
    floatv sums[ROWS][PIXELS_AT_ONCE];                                                                                       \
    _Pragma("unroll") for (int r = 0; r < ROWS; ++r)                                                                         \
      _Pragma("unroll") for (int q = 0; q < PIXELS_AT_ONCE; ++q) sums[r][q] = SPLAT(0.0f);                                   \
    _Pragma("unroll") for (int i = 0; i < (ROWS - 1) * STRIDE + K; ++i) {                                                    \
      GLOBAL const element *from = ring + line[i] + ow * STRIDE * ld + c;                                                    \
      floatv inputs[(PIXELS_AT_ONCE - 1) * STRIDE + K];                                                                      \
      _Pragma("unroll") for (int q = 0; q < (PIXELS_AT_ONCE - 1) * STRIDE + K; ++q) inputs[q] = LOADE(from + q * ld);        \
      _Pragma("unroll") for (int r = 0; r < ROWS; ++r)                                                                       \
        if (i >= r * STRIDE && i < r * STRIDE + K) {                                                                         \
          _Pragma("unroll") for (int j = 0; j < K; ++j)                                                                      \
            _Pragma("unroll") for (int q = 0; q < PIXELS_AT_ONCE; ++q)                                                       \
              sums[r][q] = FMAV(inputs[q * STRIDE + j], factors[(i - r * STRIDE) * K + j], sums[r][q]);                      \
        }                                                                                                                    \
    }                                                                                                                        \
    int pixels = min(PIXELS_AT_ONCE, p.ow - ow);                                                                             \
    GLOBAL element *to = u + (size_t)(row * p.ow + ow) * ld + c;                                                             \
    _Pragma("unroll") for (int r = 0; r < ROWS; ++r, to += p.ow * ld) {                                                      \
      if (is_simple(p.depthwise.activation)) {                                                                               \
        _Pragma("unroll") for (int q = 0; q < PIXELS_AT_ONCE; ++q)                                                           \
          if (q < pixels)                                                                                                    \
            STOREE(activate_simple(sums[r][q] + added, p.depthwise.activation, p.depthwise.alpha, p.depthwise.beta), to + q * ld); \
      } else {                                                                                                               \
        float kept[PIXELS_AT_ONCE * VW];                                                                                     \
        _Pragma("unroll") for (int q = 0; q < PIXELS_AT_ONCE; ++q) STOREV_PRIVATE(sums[r][q] + added, kept + q * VW);        \
        separable_finish(kept, to, pixels, ld, p.depthwise);                                                                 \
      }                                                                                                                      \
    }                                                                                                                        \
  }

// The other activations: a call among the sums would spill them all.
OUTLINE void separable_finish(float *kept, GLOBAL element *to, int pixels, int ld, const GraftEpilogue epilogue) {
  activate_vectors(kept, pixels, epilogue.activation, epilogue.alpha, epilogue.beta);
  for (int q = 0; q < pixels; ++q) STOREE(LOADV_PRIVATE(kept + q * VW), to + q * ld);
}

// `rows` rows of u, of which the first kernel's first row is row `top` of t. What lies beyond e channels is stored too, whole vectors
// of it, and nobody reads it.
#define SEPARABLE_KERNEL(K, STRIDE)                                                                                          \
  OUTLINE void GRAFT_JOIN(separable_##K##x, STRIDE)(                                                                         \
      GLOBAL const element *ring, GLOBAL const float *w, GLOBAL const float *bias, GLOBAL element *u, int top, int rows, int ld, \
      const GraftSeparableParams p) {                                                                                        \
    const int rounded = (p.e + VW - 1) / VW * VW;                                                                            \
    for (int c = 0; c < p.e; c += VW) {                                                                                      \
      floatv factors[K * K];                                                                                                 \
      _Pragma("unroll") for (int i = 0; i < K * K; ++i) factors[i] = LOADV(w + i * rounded + c);                             \
      const floatv added = p.depthwise.hasBias ? float_part(bias + c, min(VW, p.e - c)) : SPLAT(0.0f);                       \
      for (int row = 0; row < rows; row += 2) {                                                                              \
        int line[MAX_LINES];                                                                                                 \
        _Pragma("unroll") for (int i = 0; i < STRIDE + K; ++i) {                                                             \
          int h = top + row * STRIDE + i;                                                                                    \
          line[i] = (h < 0 || h >= p.h ? p.ringRows : h % p.ringRows) * p.ringWidth * ld;                                    \
        }                                                                                                                    \
        if (row + 1 < rows) {                                                                                                \
          SEPARABLE_ROWS(K, STRIDE, 2)                                                                                       \
        } else {                                                                                                             \
          SEPARABLE_ROWS(K, STRIDE, 1)                                                                                       \
        }                                                                                                                    \
      }                                                                                                                      \
    }                                                                                                                        \
  }
SEPARABLE_KERNEL(3, 1)
SEPARABLE_KERNEL(3, 2)
SEPARABLE_KERNEL(5, 1)
SEPARABLE_KERNEL(5, 2)
SEPARABLE_KERNEL(7, 1)
SEPARABLE_KERNEL(7, 2)

KERNEL10(separable, GLOBAL const element *x, GLOBAL const element *expansion, GLOBAL const float *expansionBias, GLOBAL const float *depthwise, GLOBAL const float *depthwiseBias, GLOBAL const element *projection, GLOBAL const float *projectionBias, GLOBAL const element *residual, GLOBAL element *scratch, GLOBAL element *y, GraftSeparableParams) {
  const int ld = p.ringStride, ringSize = p.ringRows * p.ringWidth * ld;
  GLOBAL element *ring = scratch + (size_t)ITEM_X * p.scratchPerItem;
  GLOBAL element *u = ring + ringSize + p.ringWidth * ld;
  // Zero once: the padding beside the rows, and the row that stands for those above and below the image.
  for (int i = 0; i < ringSize + p.ringWidth * ld; i += VW) STOREE(SPLAT(0.0f), ring + i);

  const int stepsPerImage = (p.oh + p.rowsPerStep - 1) / p.rowsPerStep;
  const graft_long steps = (graft_long)p.n * stepsPerImage;
  const int first = (int)(steps * ITEM_X / p.items), end = (int)(steps * (ITEM_X + 1) / p.items);
  int ready = 0;  // rows of t before this one have been computed
  for (int step = first; step < end; ++step) {
    const int image = step / stepsPerImage, oh = (step - image * stepsPerImage) * p.rowsPerStep;
    const int rows = min(p.rowsPerStep, p.oh - oh), top = oh * p.strideH - p.padH;
    const int bottom = min(top + (rows - 1) * p.strideH + p.kh, p.h);
    if (step == first || oh == 0) ready = max(top, 0);
    ready = max(ready, top);
    if (bottom > ready) {
      GLOBAL const element *from = x + ((size_t)image * p.h + ready) * p.w * p.ldx;
      separable_expand(from, expansion, expansionBias, ring, ready, bottom - ready, ld, p);
      ready = bottom;
    }
#define SEPARABLE_CASE(K, STRIDE) GRAFT_JOIN(separable_##K##x, STRIDE)(ring, depthwise, depthwiseBias, u, top, rows, ld, p)
    switch (p.kw * 2 + p.strideW) {
    case 3 * 2 + 1: SEPARABLE_CASE(3, 1); break;
    case 3 * 2 + 2: SEPARABLE_CASE(3, 2); break;
    case 5 * 2 + 1: SEPARABLE_CASE(5, 1); break;
    case 5 * 2 + 2: SEPARABLE_CASE(5, 2); break;
    case 7 * 2 + 1: SEPARABLE_CASE(7, 1); break;
    default: SEPARABLE_CASE(7, 2); break;
    }
    const size_t pixel = ((size_t)image * p.oh + oh) * p.ow;
    gemm_block(
        u, projection, projectionBias, residual + pixel * p.ldr, y + pixel * p.ldy, rows * p.ow, p.oc, p.e, ld, p.ldr, p.ldy, 0,
        (p.oc + PANEL - 1) / PANEL, p.projection);
  }
}
