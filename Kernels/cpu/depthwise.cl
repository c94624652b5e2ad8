// Depthwise convolution (one input channel an output channel), channels last.
//
// Work-items: x output rows (n, oh). A vector of channels goes along the whole row before the next one does: its weights stay in
// registers, and four neighbouring pixels share each of them and the inputs they have in common. Meanwhile the rows of the image
// that the next output row adds are asked for, as nothing else would guess them. Pixels whose window leaves the image at the side
// are computed alone. Weights float32, [taps, c rounded up to whole vectors] (pack_depthwise). A sum grows in the order of the
// taps, whichever way it goes.
#include "cpu/tile.h"

#define PIXELS 4

// What all of a row's pixels share.
typedef struct {
  int top, firstH, endH;         // the window's first row in the image, and its rows inside
  int lineStep;                  // elements between the image's rows
  floatv bias, low, high;        // activation: none, relu or clip, as limits
} DepthwiseRow;

// One pixel of `count` channels: the bias is in its sum. With the other activations (tile.h: a call among the sums would spill
// them all) a row goes another way.
INLINE void store_simple(floatv sum, const DepthwiseRow row, GLOBAL const element *residual, GLOBAL element *y, int count, const GraftEpilogue epilogue) {
  if (epilogue.hasResidual) sum += load_part(residual, count);
  sum = SELECTV(sum, row.low, sum < row.low);
  sum = SELECTV(sum, row.high, sum > row.high);
  store_part(sum, y, count);
}
INLINE void store_smooth(floatv sum, const DepthwiseRow row, GLOBAL const element *residual, GLOBAL element *y, int count, const GraftEpilogue epilogue) {
  if (epilogue.hasResidual) sum += load_part(residual, count);
  store_part(activate_smooth(sum, epilogue.activation, epilogue.alpha, epilogue.beta), y, count);
}

// PIXELS pixels of whole vectors.
INLINE void store_simple_pixels(
    const floatv *sums, const DepthwiseRow row, GLOBAL const element *residual, GLOBAL element *y, const GraftConvParams p) {
  _Pragma("unroll") for (int q = 0; q < PIXELS; ++q)
    store_simple(sums[q] + row.bias, row, residual + (ptrdiff_t)q * p.ldr, y + (ptrdiff_t)q * p.ldy, VW, p.epilogue);
}
OUTLINE void depthwise_finish(float *kept, GLOBAL const element *residual, GLOBAL element *y, int ldr, int ldy, const GraftEpilogue epilogue) {
  if (epilogue.hasResidual)
    for (int q = 0; q < PIXELS; ++q) STOREV_PRIVATE(LOADV_PRIVATE(kept + q * VW) + LOADE(residual + (ptrdiff_t)q * ldr), kept + q * VW);
  activate_vectors(kept, PIXELS, epilogue.activation, epilogue.alpha, epilogue.beta);
  for (int q = 0; q < PIXELS; ++q) STOREE(LOADV_PRIVATE(kept + q * VW), y + (ptrdiff_t)q * ldy);
}
INLINE void store_smooth_pixels(
    const floatv *sums, const DepthwiseRow row, GLOBAL const element *residual, GLOBAL element *y, const GraftConvParams p) {
  float kept[PIXELS * VW];
  _Pragma("unroll") for (int q = 0; q < PIXELS; ++q) STOREV_PRIVATE(sums[q] + row.bias, kept + q * VW);
  depthwise_finish(kept, residual, y, p.ldr, p.ldy, p.epilogue);
}

// One pixel of `count` channels, with any window. `line`: the image's column `left` in the window's first row.
INLINE floatv depthwise_pixel(GLOBAL const element *line, GLOBAL const float *w, int rounded, int left, const DepthwiseRow row, int count, const GraftConvParams p) {
  int firstW = left < 0 ? (-left + p.dilationW - 1) / p.dilationW : 0, taps = min(p.kw, (p.w - left + p.dilationW - 1) / p.dilationW) - firstW;
  const ptrdiff_t step = (ptrdiff_t)p.dilationW * p.ldx, down = (ptrdiff_t)p.dilationH * row.lineStep;
  line += row.firstH * down + firstW * step;
  w += (ptrdiff_t)(row.firstH * p.kw + firstW) * rounded;
  floatv sum = SPLAT(0.0f);
  for (int i = row.firstH; i < row.endH; ++i, line += down, w += (ptrdiff_t)p.kw * rounded) {
    GLOBAL const element *from = line;
    GLOBAL const float *weights = w;
    for (int j = 0; j < taps; ++j, from += step, weights += rounded) sum = FMAV(load_part(from, count), LOADV(weights), sum);
  }
  return sum;
}

// sums[q] += x[q STRIDE + j] w[j] for j < KW; WEIGHT(j) is a vector of weights.
#define DEPTHWISE_LINE(KW, STRIDE, FROM, WEIGHT)                                                                            \
  {                                                                                                                         \
    floatv inputs[(PIXELS - 1) * STRIDE + KW];                                                                              \
    _Pragma("unroll") for (int q = 0; q < (PIXELS - 1) * STRIDE + KW; ++q) inputs[q] = LOADE((FROM) + (ptrdiff_t)q * p.ldx); \
    _Pragma("unroll") for (int j = 0; j < KW; ++j) {                                                                        \
      floatv weight = WEIGHT(j);                                                                                            \
      _Pragma("unroll") for (int q = 0; q < PIXELS; ++q) sums[q] = FMAV(inputs[q * STRIDE + j], weight, sums[q]);           \
    }                                                                                                                       \
  }

// Pixels `ow` … below `inside`, four at a time, whose windows of KW columns lie inside the image; SUM adds up the window's rows.
#define DEPTHWISE_PIXELS(KW, STRIDE, SUM, STORE)                                                                            \
  for (; ow + PIXELS <= inside; ow += PIXELS) {                                                                             \
    floatv sums[PIXELS];                                                                                                    \
    _Pragma("unroll") for (int q = 0; q < PIXELS; ++q) sums[q] = SPLAT(0.0f);                                               \
    SUM(KW, STRIDE)                                                                                                         \
    _Pragma("unroll") for (int i = 0; i < STRIDE; ++i) {                                                                    \
      GLOBAL const element *next = from + nextStep + (ptrdiff_t)i * row.lineStep;                                           \
      _Pragma("unroll") for (int q = 0; q < PIXELS * STRIDE; ++q) PREFETCH(next + (ptrdiff_t)q * p.ldx);                    \
    }                                                                                                                       \
    STORE##_pixels(sums, row, added, to, p);                                                                                \
    from += PIXELS * STRIDE * (ptrdiff_t)p.ldx;                                                                             \
    added += PIXELS * (ptrdiff_t)p.ldr;                                                                                     \
    to += PIXELS * (ptrdiff_t)p.ldy;                                                                                        \
  }

// The rows of the window that lie inside the image, weights from memory; and three rows of three, weights in registers.
#define ROW_WEIGHT(j) LOADV(weights + (ptrdiff_t)(j) * rounded)
#define SUM_OF_ROWS(KW, STRIDE)                                                                                             \
  for (int i = row.firstH; i < row.endH; ++i) {                                                                             \
    GLOBAL const float *weights = w + (ptrdiff_t)(i * KW) * rounded + c;                                                    \
    DEPTHWISE_LINE(KW, STRIDE, from + (ptrdiff_t)i * p.dilationH * row.lineStep, ROW_WEIGHT)                                \
  }
#define KEPT_WEIGHT_0(j) kept[j]
#define KEPT_WEIGHT_1(j) kept[3 + j]
#define KEPT_WEIGHT_2(j) kept[6 + j]
#define SUM_OF_THREE(KW, STRIDE)                                                                                            \
  DEPTHWISE_LINE(KW, STRIDE, from, KEPT_WEIGHT_0)                                                                           \
  DEPTHWISE_LINE(KW, STRIDE, from + (ptrdiff_t)p.dilationH * row.lineStep, KEPT_WEIGHT_1)                                   \
  DEPTHWISE_LINE(KW, STRIDE, from + 2 * (ptrdiff_t)p.dilationH * row.lineStep, KEPT_WEIGHT_2)
#define DEPTHWISE_THREE(STRIDE, STORE)                                                                                      \
  {                                                                                                                         \
    floatv kept[9];                                                                                                         \
    _Pragma("unroll") for (int t = 0; t < 9; ++t) kept[t] = LOADV(w + (ptrdiff_t)t * rounded + c);                          \
    DEPTHWISE_PIXELS(3, STRIDE, SUM_OF_THREE, STORE)                                                                        \
  }
#define DEPTHWISE_ALONE(end, STORE)                                                                                         \
  for (; ow < end; ++ow, from += (ptrdiff_t)p.strideW * p.ldx, added += p.ldr, to += p.ldy) {                               \
    floatv sum = depthwise_pixel(from, w + c, rounded, ow * p.strideW - p.padW, row, count, p);                             \
    STORE(sum + row.bias, row, added, to, count, p.epilogue);                                                               \
  }

// A row of `count` channels from `c`. `from`: the column padW before the image's first, in the window's first row.
#define DEPTHWISE_ROW(name, STORE)                                                                                          \
  INLINE void name(                                                                                                         \
      GLOBAL const element *from, GLOBAL const float *w, GLOBAL const element *added, GLOBAL element *to, int c, int count, \
      const DepthwiseRow row, const GraftConvParams p) {                                                                    \
    const int rounded = (p.c + VW - 1) / VW * VW;                                                                           \
    /* The rows that the next output row adds. */                                                                           \
    const ptrdiff_t nextStep = (ptrdiff_t)p.kh * p.dilationH * row.lineStep;                                                \
    /* Output pixels whose windows lie inside from side to side. */                                                         \
    int beyond = p.w + p.padW - (p.kw - 1) * p.dilationW - 1;                                                               \
    int first = min((p.padW + p.strideW - 1) / p.strideW, p.ow), inside = beyond < 0 ? 0 : min(beyond / p.strideW + 1, p.ow), ow = 0; \
    int width = count == VW && p.dilationW == 1 ? p.kw : 0;                                                                 \
    bool three = p.kh == 3 && row.firstH == 0 && row.endH == 3;                                                             \
    DEPTHWISE_ALONE(first, STORE)                                                                                           \
    /* Widths and strides that are known to the compiler. */                                                                \
    if (width > 0 && (p.strideW == 1 || p.strideW == 2))                                                                    \
      switch (width * 2 + p.strideW + (three && width == 3 ? 100 : 0)) {                                                    \
      case 100 + 3 * 2 + 1: DEPTHWISE_THREE(1, STORE) break;                                                                \
      case 100 + 3 * 2 + 2: DEPTHWISE_THREE(2, STORE) break;                                                                \
      case 3 * 2 + 1: DEPTHWISE_PIXELS(3, 1, SUM_OF_ROWS, STORE) break;                                                     \
      case 3 * 2 + 2: DEPTHWISE_PIXELS(3, 2, SUM_OF_ROWS, STORE) break;                                                     \
      case 5 * 2 + 1: DEPTHWISE_PIXELS(5, 1, SUM_OF_ROWS, STORE) break;                                                     \
      case 5 * 2 + 2: DEPTHWISE_PIXELS(5, 2, SUM_OF_ROWS, STORE) break;                                                     \
      case 7 * 2 + 1: DEPTHWISE_PIXELS(7, 1, SUM_OF_ROWS, STORE) break;                                                     \
      case 7 * 2 + 2: DEPTHWISE_PIXELS(7, 2, SUM_OF_ROWS, STORE) break;                                                     \
      default: break;                                                                                                       \
      }                                                                                                                     \
    DEPTHWISE_ALONE(p.ow, STORE)                                                                                            \
  }
DEPTHWISE_ROW(depthwise_row_simple, store_simple)
DEPTHWISE_ROW(depthwise_row_smooth, store_smooth)

KERNEL5(depthwise, GLOBAL const element *x, GLOBAL const float *w, GLOBAL const float *bias, GLOBAL const element *residual, GLOBAL element *y, GraftConvParams) {
  int n = ITEM_X / p.oh, oh = ITEM_X - n * p.oh;
  DepthwiseRow row;
  row.lineStep = p.w * p.ldx;
  row.top = oh * p.strideH - p.padH;
  row.firstH = row.top < 0 ? (-row.top + p.dilationH - 1) / p.dilationH : 0;
  row.endH = min(p.kh, (p.h - row.top + p.dilationH - 1) / p.dilationH);
  bool clips = p.epilogue.activation == GRAFT_ACTIVATION_CLIP;
  row.low = SPLAT(clips ? p.epilogue.alpha : p.epilogue.activation == GRAFT_ACTIVATION_RELU ? 0.0f : -INFINITY);
  row.high = SPLAT(clips ? p.epilogue.beta : INFINITY);
  GLOBAL const element *from = x + ((ptrdiff_t)n * p.h + row.top) * row.lineStep - (ptrdiff_t)p.padW * p.ldx;
  GLOBAL const element *added = residual + (ptrdiff_t)ITEM_X * p.ow * p.ldr;
  GLOBAL element *to = y + (ptrdiff_t)ITEM_X * p.ow * p.ldy;
  for (int c = 0; c < p.c; c += VW) {
    int count = min(VW, p.c - c);
    row.bias = p.epilogue.hasBias ? float_part(bias + c, count) : SPLAT(0.0f);
    if (is_simple(p.epilogue.activation)) depthwise_row_simple(from + c, w, added + c, to + c, c, count, row, p);
    else depthwise_row_smooth(from + c, w, added + c, to + c, c, count, row, p);
  }
}
