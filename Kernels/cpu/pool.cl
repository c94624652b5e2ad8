// Maximum and average pooling, channels last. Work-items: x output rows (n, oh).
//
// The divisor of an average is the number of positions inside the image, or, with countsPadding, inside the padded image.
//
// Where windows overlap along the row, each column of a window is reduced once, over the window's rows, and kept for the windows
// that still want it:
//
//     kept[column % kw][channel]      as many channels at a time as fit POOL_KEPT floats
#include "cpu/tile.h"

#define POOL_VECTORS 4
// 32 KiB: the nearest cache or two thirds of it.
#define POOL_KEPT 8192
// Windows wider than this have all their taps read anew.
#define POOL_COLUMNS 16
// How far ahead of its reads the row that no other window has read yet is asked for, in elements.
#ifndef POOL_AHEAD
#define POOL_AHEAD 4096
#endif

// A NaN stays one.
INLINE floatv pooled(floatv value, floatv next, int average) {
  return average ? value + next : SELECTV(value, next, (next > value) | (next != next));
}

// values = the reduction of COUNT vectors over the taps; TAPS runs TAKE(from) for each.
#define POOL_REDUCE(COUNT, FROM, LOAD)                                                                                       \
  _Pragma("unroll") for (int v = 0; v < COUNT; ++v) values[v] = pooled(values[v], LOAD(FROM + v * VW), average);
#define POOL_START(COUNT)                                                                                                    \
  floatv values[COUNT];                                                                                                      \
  _Pragma("unroll") for (int v = 0; v < COUNT; ++v) values[v] = SPLAT(average ? 0.0f : -3.402823466e38f);
#define POOL_LOAD_PART(from) load_part(from, count)

// Channels c … of an output pixel from all of its taps.
#define POOL_TAPS(COUNT, LOAD, STORE)                                                                                        \
  {                                                                                                                          \
    POOL_START(COUNT)                                                                                                        \
    for (int i = firstH; i < endH; ++i)                                                                                      \
      for (int j = firstW; j < endW; ++j) {                                                                                  \
        GLOBAL const element *from =                                                                                         \
            image + ((ptrdiff_t)(top + i * p.dilationH) * p.w + left + (ptrdiff_t)j * p.dilationW) * p.ldx + c;              \
        POOL_REDUCE(COUNT, from, LOAD)                                                                                       \
      }                                                                                                                      \
    _Pragma("unroll") for (int v = 0; v < COUNT; ++v) STORE(average ? values[v] * scale : values[v], to + c + v * VW, count);\
  }
#define POOL_STORE(value, to, count) STOREE(value, to)

// Channels c … of one column from the window's rows, put aside; and an output pixel from the columns put aside.
#define POOL_COLUMN(COUNT, LOAD)                                                                                             \
  {                                                                                                                          \
    POOL_START(COUNT)                                                                                                        \
    GLOBAL const element *from = lines + (ptrdiff_t)column * p.ldx + c;                                                      \
    for (int i = firstH; i < endH; ++i, from += lineStep) {                                                                  \
      if (i == endH - 1) {                                                                                                   \
        _Pragma("unroll") for (int v = 0; v < COUNT; ++v) PREFETCH(from + v * VW + ahead);                                 \
      }                                                                                                                      \
      POOL_REDUCE(COUNT, from, LOAD)                                                                                         \
    }                                                                                                                        \
    _Pragma("unroll") for (int v = 0; v < COUNT; ++v) STOREV_PRIVATE(values[v], slot + c + v * VW);                          \
  }
#define POOL_ROW(COUNT, STORE)                                                                                               \
  {                                                                                                                          \
    POOL_START(COUNT)                                                                                                        \
    for (int column = begin; column < end; ++column) {                                                                       \
      const float *from = kept + column % p.kw * width + c;                                                                  \
      POOL_REDUCE(COUNT, from, LOADV_PRIVATE)                                                                                \
    }                                                                                                                        \
    _Pragma("unroll") for (int v = 0; v < COUNT; ++v) STORE(average ? values[v] * scale : values[v], to + c + v * VW, count);\
  }

// 1 / the number of positions that an average counts.
INLINE float pool_scale(const GraftPoolParams p, int top, int left) {
  int counted = 0;
  for (int i = 0; i < p.kh; ++i)
    for (int j = 0; j < p.kw; ++j) {
      int h = top + i * p.dilationH, w = left + j * p.dilationW;
      bool real = h >= 0 && h < p.h && w >= 0 && w < p.w;
      bool padded = p.countsPadding && h < p.h + p.padEndH && w < p.w + p.padEndW;
      counted += real || padded;
    }
  return counted > 0 ? 1.0f / counted : 0.0f;
}

KERNEL2(pool, GLOBAL const element *x, GLOBAL element *y, GraftPoolParams) {
  int n = ITEM_X / p.oh, oh = ITEM_X - n * p.oh;
  GLOBAL const element *image = x + (size_t)n * p.h * p.w * p.ldx;
  GLOBAL element *row = y + (size_t)ITEM_X * p.ow * p.ldy;
  const int average = p.average, top = oh * p.strideH - p.padH;
  // Taps inside the image.
  int firstH = top < 0 ? (-top + p.dilationH - 1) / p.dilationH : 0, endH = min(p.kh, (p.h - top + p.dilationH - 1) / p.dilationH);

  if (p.dilationW == 1 && p.strideW < p.kw && p.kw <= POOL_COLUMNS) {
    float kept[POOL_KEPT];
    const int width = POOL_KEPT / p.kw / VW * VW;
    const ptrdiff_t ahead = (ptrdiff_t)((POOL_AHEAD + p.ldx - 1) / p.ldx) * p.ldx, lineStep = (ptrdiff_t)p.dilationH * p.w * p.ldx;
    for (int block = 0; block < p.c; block += width) {
      int channels = min(width, p.c - block), next = 0;
      GLOBAL const element *lines = image + (ptrdiff_t)(top + firstH * p.dilationH) * p.w * p.ldx + block;
      for (int ow = 0; ow < p.ow; ++ow) {
        int left = ow * p.strideW - p.padW, begin = max(left, 0), end = min(left + p.kw, p.w);
        for (int column = max(next, begin); column < end; ++column) {
          float *slot = kept + column % p.kw * width;
          int c = 0;
          for (; c + POOL_VECTORS * VW <= channels; c += POOL_VECTORS * VW) POOL_COLUMN(POOL_VECTORS, LOADE)
          for (; c < channels; c += VW) {
            int count = min(VW, channels - c);
            POOL_COLUMN(1, POOL_LOAD_PART)
          }
        }
        next = max(next, end);
        floatv scale = SPLAT(average ? pool_scale(p, top, left) : 1.0f);
        GLOBAL element *to = row + (size_t)ow * p.ldy + block;
        int c = 0, count = VW;
        for (; c + POOL_VECTORS * VW <= channels; c += POOL_VECTORS * VW) POOL_ROW(POOL_VECTORS, POOL_STORE)
        for (; c < channels; c += VW) {
          count = min(VW, channels - c);
          POOL_ROW(1, store_part)
        }
      }
    }
    return;
  }

  for (int ow = 0; ow < p.ow; ++ow) {
    int left = ow * p.strideW - p.padW;
    int firstW = left < 0 ? (-left + p.dilationW - 1) / p.dilationW : 0, endW = min(p.kw, (p.w - left + p.dilationW - 1) / p.dilationW);
    floatv scale = SPLAT(average ? pool_scale(p, top, left) : 1.0f);
    GLOBAL element *to = row + (size_t)ow * p.ldy;
    int c = 0, count = VW;
    for (; c + POOL_VECTORS * VW <= p.c; c += POOL_VECTORS * VW) POOL_TAPS(POOL_VECTORS, LOADE, POOL_STORE)
    for (; c < p.c; c += VW) {
      count = min(VW, p.c - c);
      POOL_TAPS(1, POOL_LOAD_PART, store_part)
    }
  }
}

// The gradient with respect to the image: each position gathers from the windows it lies in, in their order; of equal maxima the
// window's first takes all. Work-items: x rows of the image (n, h).
KERNEL3(pool_gradient, GLOBAL const element *x, GLOBAL const element *dy, GLOBAL element *dx, GraftPoolParams) {
  int n = ITEM_X / p.h, h = ITEM_X - n * p.h;
  GLOBAL const element *image = x + (size_t)n * p.h * p.w * p.ldx;
  GLOBAL element *to = dx + (size_t)ITEM_X * p.w * p.c;
  for (int w = 0; w < p.w; ++w, to += p.c) {
    // Windows whose taps reach this row and column: oh stride + i dilation - pad = h.
    int spanH = (p.kh - 1) * p.dilationH, spanW = (p.kw - 1) * p.dilationW;
    int firstH = max(0, (h + p.padH - spanH + p.strideH - 1) / p.strideH), firstW = max(0, (w + p.padW - spanW + p.strideW - 1) / p.strideW);
    int endH = min(p.oh, (h + p.padH) / p.strideH + 1), endW = min(p.ow, (w + p.padW) / p.strideW + 1);
    for (int c = 0; c < p.c; c += VW) {
      int count = min(VW, p.c - c);
      floatv sum = SPLAT(0.0f);
      for (int oh = firstH; oh < endH; ++oh)
        for (int ow = firstW; ow < endW; ++ow) {
          int top = oh * p.strideH - p.padH, left = ow * p.strideW - p.padW;
          if ((h - top) % p.dilationH != 0 || (w - left) % p.dilationW != 0) continue;
          floatv upstream = load_part(dy + (((size_t)n * p.oh + oh) * p.ow + ow) * p.ldy + c, count);
          if (p.average) {
            sum = FMAV(upstream, SPLAT(pool_scale(p, top, left)), sum);
            continue;
          }
          // Greater than all taps before it, not less than those after it.
          floatv mine = load_part(image + ((ptrdiff_t)h * p.w + w) * p.ldx + c, count);
          intv chosen = (intv)(-1);
          for (int i = 0; i < p.kh; ++i)
            for (int j = 0; j < p.kw; ++j) {
              int row = top + i * p.dilationH, column = left + j * p.dilationW;
              if (row < 0 || row >= p.h || column < 0 || column >= p.w || (row == h && column == w)) continue;
              floatv other = load_part(image + ((ptrdiff_t)row * p.w + column) * p.ldx + c, count);
              chosen &= row < h || (row == h && column < w) ? mine > other : mine >= other;
            }
          sum += SELECTV(SPLAT(0.0f), upstream, chosen);
        }
      store_part(sum, to + c, count);
    }
  }
}
