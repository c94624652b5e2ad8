// The gradient of a convolution with respect to its weights, in shares of the output rows:
//
//     partial[share, tap, o, c] = sum over the share's pixels of  dy[n, oh, ow, o] x[n, oh s + a d - p, ow s + b d - p, c],   c in o's group
//
// and their sum, in the weights' own order. Both operands are contiguous along what they contribute to the product, so nothing is
// packed: a step multiplies MR values of dy with NV vectors of x. Pixels go by in blocks that stay in the nearest cache while the
// output channels pass; sums wait in `partial` from one block to the next. float32 sums, in the order of the pixels.
#include "cpu/tile.h"

// Pixels of a block: with PANEL channels two thirds of the nearest cache.
#define WEIGHT_PIXELS 128

// One row of the image: sums[m][v] += dy[pixel][m] x[pixel][v].
#define WEIGHT_TILE(MR, NV, PART)                                                                                            \
  OUTLINE void GRAFT_JOIN(weight_tile_##MR##x, GRAFT_JOIN(NV, PART))(                                                        \
      GLOBAL const element *image, GLOBAL const element *gradient, GLOBAL float *to, int firstRow, int endRow, int a, int b, int channels, \
      int continues, int ldt, const GraftConvParams p) {                                                                     \
    TILE_ZERO(MR, NV)                                                                                                        \
    if (continues) {                                                                                                         \
      _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                       \
        _Pragma("unroll") for (int v = 0; v < NV; ++v) sums[m][v] = float_part(to + (size_t)m * ldt + v * VW, channels - v * VW); \
      }                                                                                                                      \
    }                                                                                                                        \
    int firstW = max(0, (p.padW - b * p.dilationW + p.strideW - 1) / p.strideW);                                             \
    int lastW = p.w - 1 + p.padW - b * p.dilationW, endW = lastW < 0 ? 0 : min(p.ow, lastW / p.strideW + 1);                 \
    for (int row = firstRow; row < endRow; ++row) {                                                                          \
      int n = row / p.oh, h = (row - n * p.oh) * p.strideH + a * p.dilationH - p.padH;                                       \
      if (h < 0 || h >= p.h) continue;                                                                                       \
      GLOBAL const element *from = image + ((ptrdiff_t)((size_t)n * p.h + h) * p.w + (ptrdiff_t)firstW * p.strideW + b * p.dilationW - p.padW) * p.ldx; \
      GLOBAL const element *values = gradient + ((size_t)row * p.ow + firstW) * p.ldy;                                       \
      for (int w = firstW; w < endW; ++w, from += (ptrdiff_t)p.strideW * p.ldx, values += p.ldy) {                           \
        floatv x[NV];                                                                                                        \
        _Pragma("unroll") for (int v = 0; v < NV; ++v) x[v] = WEIGHT_LOAD##PART(from + v * VW, channels - v * VW);           \
        _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                     \
          floatv value = SPLAT_ELEMENT(values + m);                                                                          \
          _Pragma("unroll") for (int v = 0; v < NV; ++v) sums[m][v] = FMAV(value, x[v], sums[m][v]);                         \
        }                                                                                                                    \
      }                                                                                                                      \
    }                                                                                                                        \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                         \
      _Pragma("unroll") for (int v = 0; v < NV; ++v)                                                                         \
        if (channels > v * VW) store_float_part(sums[m][v], to + (size_t)m * ldt + v * VW, channels - v * VW);               \
    }                                                                                                                        \
  }
#if GRAFT_STORAGE == GRAFT_FLOAT32
#define SPLAT_ELEMENT(pointer) SPLAT(*(pointer))
#else
#define SPLAT_ELEMENT(pointer) widen((ushortv)(*(pointer)))
#endif
#define WEIGHT_LOADw(from, count) LOADE(from)
#define WEIGHT_LOADp(from, count) load_part(from, count)
#define WEIGHT_TILES(MR, NV) WEIGHT_TILE(MR, NV, w) WEIGHT_TILE(MR, NV, p)

// The last vector of a panel may be a part: all of the panel's are loaded so there.
#if PANEL_VECTORS == 4
WEIGHT_TILES(6, 4)
WEIGHT_TILES(6, 3)
WEIGHT_TILES(1, 4)
WEIGHT_TILES(1, 3)
#endif
WEIGHT_TILES(6, 2)
WEIGHT_TILES(6, 1)
WEIGHT_TILES(1, 2)
WEIGHT_TILES(1, 1)

// Work-items: x taps by panels of a group's input channels, y shares of p.rowsPerItem output rows, z groups.
KERNEL3(conv_weights, GLOBAL const element *x, GLOBAL const element *dy, GLOBAL float *partial, GraftConvParams) {
  int inputs = p.c / p.groups, outputs = p.oc / p.groups, panels = (inputs + PANEL - 1) / PANEL;
  int tap = ITEM_X / panels, channel = (ITEM_X - tap * panels) * PANEL, channels = min(PANEL, inputs - channel);
  int vectors = (channels + VW - 1) / VW, whole = channels == vectors * VW, a = tap / p.kw, b = tap - a * p.kw;
  int first = ITEM_Y * p.rowsPerItem, end = min(first + p.rowsPerItem, p.n * p.oh), step = max(1, WEIGHT_PIXELS / p.ow);
  GLOBAL float *to = partial + (((size_t)ITEM_Y * p.kh * p.kw + tap) * p.oc + ITEM_Z * outputs) * inputs + channel;
  for (int row = first; row < end; row += step) {
    int last = min(row + step, end);
    for (int o = 0; o < outputs;) {
      int count = outputs - o >= 6 ? 6 : 1;
      GLOBAL const element *image = x + ITEM_Z * inputs + channel, *gradient = dy + ITEM_Z * outputs + o;
#define WEIGHT_CASE(MR, NV)                                                                                                  \
  case MR * 10 + NV:                                                                                                         \
    if (whole) weight_tile_##MR##x##NV##w(image, gradient, to + (size_t)o * inputs, row, last, a, b, channels, row > first, inputs, p); \
    else weight_tile_##MR##x##NV##p(image, gradient, to + (size_t)o * inputs, row, last, a, b, channels, row > first, inputs, p); \
    break;
      switch (count * 10 + vectors) {
#if PANEL_VECTORS == 4
        WEIGHT_CASE(6, 4)
        WEIGHT_CASE(6, 3)
        WEIGHT_CASE(1, 4)
        WEIGHT_CASE(1, 3)
#endif
        WEIGHT_CASE(6, 2)
        WEIGHT_CASE(6, 1)
        WEIGHT_CASE(1, 2)
        WEIGHT_CASE(1, 1)
      }
      o += count;
    }
  }
}

// The same where every channel is a group of its own. Work-items: x vectors of channels, y taps, z shares.
KERNEL3(depthwise_weights, GLOBAL const element *x, GLOBAL const element *dy, GLOBAL float *partial, GraftConvParams) {
  int c = ITEM_X * VW, count = min(VW, p.c - c), a = ITEM_Y / p.kw, b = ITEM_Y - a * p.kw;
  int first = ITEM_Z * p.rowsPerItem, end = min(first + p.rowsPerItem, p.n * p.oh);
  int firstW = max(0, (p.padW - b * p.dilationW + p.strideW - 1) / p.strideW);
  int lastW = p.w - 1 + p.padW - b * p.dilationW, endW = lastW < 0 ? 0 : min(p.ow, lastW / p.strideW + 1);
  floatv sum = SPLAT(0.0f);
  for (int row = first; row < end; ++row) {
    int n = row / p.oh, h = (row - n * p.oh) * p.strideH + a * p.dilationH - p.padH;
    if (h < 0 || h >= p.h) continue;
    GLOBAL const element *from = x + ((ptrdiff_t)((size_t)n * p.h + h) * p.w + (ptrdiff_t)firstW * p.strideW + b * p.dilationW - p.padW) * p.ldx + c;
    GLOBAL const element *values = dy + ((size_t)row * p.ow + firstW) * p.ldy + c;
    for (int w = firstW; w < endW; ++w, from += (ptrdiff_t)p.strideW * p.ldx, values += p.ldy) sum = FMAV(load_part(values, count), load_part(from, count), sum);
  }
  store_float_part(sum, partial + ((size_t)ITEM_Z * p.kh * p.kw + ITEM_Y) * p.c + c, count);
}

// y[o, c, tap] = sum over shares of partial[share, tap, o, c]. Work-items: x output channels.
KERNEL2(weights_sum, GLOBAL const float *partial, GLOBAL element *y, GraftPackParams) {
  size_t share = (size_t)p.taps * p.oc * p.c;
  for (int tap = 0; tap < p.taps; ++tap)
    for (int c = 0; c < p.c; c += VW) {
      int count = min(VW, p.c - c);
      GLOBAL const float *from = partial + ((size_t)tap * p.oc + ITEM_X) * p.c + c;
      floatv sum = SPLAT(0.0f);
      for (int s = 0; s < p.batch; ++s) sum += float_part(from + s * share, count);
      float part[VW];
      STOREV_PRIVATE(sum, part);
      for (int e = 0; e < count; ++e) element_put(part[e], y + ((size_t)ITEM_X * p.c + c + e) * p.taps + tap);
    }
}
