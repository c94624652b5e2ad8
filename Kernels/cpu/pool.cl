// Maximum and average pooling, channels last. Work-items: x output rows (n, oh).
//
// The divisor of an average is the number of positions inside the image, or, with countsPadding, inside the padded image.
#include "cpu/tile.h"

// Channels c … of an output pixel, COUNT vectors at a time: several are independent chains of comparisons or sums.
#define POOL_VECTORS 4
#define POOL_TAPS(COUNT, LOAD, STORE)                                                                                 \
  {                                                                                                                   \
    floatv values[COUNT];                                                                                             \
    _Pragma("unroll") for (int v = 0; v < COUNT; ++v) values[v] = SPLAT(p.average ? 0.0f : -3.402823466e38f);         \
    for (int i = firstH; i < endH; ++i) {                                                                             \
      GLOBAL const element *line = image + ((ptrdiff_t)(top + i * p.dilationH) * p.w + left) * p.ldx + c;             \
      for (int j = firstW; j < endW; ++j) {                                                                           \
        GLOBAL const element *from = line + (ptrdiff_t)(j * p.dilationW) * p.ldx;                                     \
        _Pragma("unroll") for (int v = 0; v < COUNT; ++v) {                                                           \
          floatv next = LOAD(from + v * VW);                                                                          \
          /* A NaN stays one. */                                                                                      \
          floatv most = SELECTV(values[v], next, (next > values[v]) | (next != next));                                \
          values[v] = p.average ? values[v] + next : most;                                                            \
        }                                                                                                             \
      }                                                                                                               \
    }                                                                                                                 \
    _Pragma("unroll") for (int v = 0; v < COUNT; ++v) STORE(p.average ? values[v] * scale : values[v], to + c + v * VW);\
  }
#define POOL_LOAD_PART(from) load_part(from, channels)
#define POOL_STORE_PART(value, to) store_part(value, to, channels)

KERNEL2(pool, GLOBAL const element *x, GLOBAL element *y, GraftPoolParams) {
  int n = ITEM_X / p.oh, oh = ITEM_X - n * p.oh;
  GLOBAL const element *image = x + (size_t)n * p.h * p.w * p.ldx;
  int top = oh * p.strideH - p.padH;
  for (int ow = 0; ow < p.ow; ++ow) {
    int left = ow * p.strideW - p.padW;
    GLOBAL element *to = y + ((size_t)ITEM_X * p.ow + ow) * p.ldy;
    int counted = 0;
    if (p.average)
      for (int i = 0; i < p.kh; ++i)
        for (int j = 0; j < p.kw; ++j) {
          int h = top + i * p.dilationH, w = left + j * p.dilationW;
          bool real = h >= 0 && h < p.h && w >= 0 && w < p.w;
          bool padded = p.countsPadding && h < p.h + p.padEndH && w < p.w + p.padEndW;
          counted += real || padded;
        }
    floatv scale = SPLAT(counted > 0 ? 1.0f / counted : 0.0f);
    // Taps inside the image.
    int firstH = top < 0 ? (-top + p.dilationH - 1) / p.dilationH : 0, firstW = left < 0 ? (-left + p.dilationW - 1) / p.dilationW : 0;
    int endH = min(p.kh, (p.h - top + p.dilationH - 1) / p.dilationH), endW = min(p.kw, (p.w - left + p.dilationW - 1) / p.dilationW);
    int c = 0;
    for (; c + POOL_VECTORS * VW <= p.c; c += POOL_VECTORS * VW) POOL_TAPS(POOL_VECTORS, LOADE, STOREE)
    for (; c < p.c; c += VW) {
      int channels = min(VW, p.c - c);
      POOL_TAPS(1, POOL_LOAD_PART, POOL_STORE_PART)
    }
  }
}
