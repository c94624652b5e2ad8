// Depthwise convolution (one input channel an output channel), channels last.
//
// Work-items: x output rows (n, oh). Along the row, four neighbouring pixels share each weight vector; at stride 1 their
// inputs overlap and come from the nearest cache. Weights [taps, c rounded up to whole vectors] (pack_depthwise).
#include "cpu/tile.h"

#define PIXELS 4

KERNEL5(depthwise, GLOBAL const float *x, GLOBAL const float *w, GLOBAL const float *bias, GLOBAL const float *residual, GLOBAL float *y, GraftConvParams) {
  int n = ITEM_X / p.oh, oh = ITEM_X - n * p.oh;
  int rounded = (p.c + VW - 1) / VW * VW;
  GLOBAL const float *image = x + (size_t)n * p.h * p.w * p.ldx;
  size_t row = (size_t)ITEM_X * p.ow;
  int top = oh * p.strideH - p.padH;
  for (int ow = 0; ow < p.ow; ow += PIXELS) {
    int pixels = min(PIXELS, p.ow - ow), left = ow * p.strideW - p.padW;
    bool inside = pixels == PIXELS && left >= 0 && left + (PIXELS - 1) * p.strideW + (p.kw - 1) * p.dilationW < p.w;
    for (int c = 0; c < p.c; c += VW) {
      int channels = min(VW, p.c - c);
      floatv sums[PIXELS];
      _Pragma("unroll") for (int q = 0; q < PIXELS; ++q) sums[q] = SPLAT(0.0f);
      for (int i = 0; i < p.kh; ++i) {
        int h = top + i * p.dilationH;
        if (h < 0 || h >= p.h) continue;
        GLOBAL const float *line = image + (size_t)h * p.w * p.ldx + c;
        for (int j = 0; j < p.kw; ++j) {
          floatv weight = LOADV(w + (size_t)(i * p.kw + j) * rounded + c);
          int first = left + j * p.dilationW;
          if (inside && channels == VW) {
            _Pragma("unroll") for (int q = 0; q < PIXELS; ++q)
              sums[q] = FMAV(LOADV(line + (ptrdiff_t)(first + q * p.strideW) * p.ldx), weight, sums[q]);
          } else {
            _Pragma("unroll") for (int q = 0; q < PIXELS; ++q) {
              int column = first + q * p.strideW;
              if (q < pixels && column >= 0 && column < p.w)
                sums[q] = FMAV(load_part(line + (ptrdiff_t)column * p.ldx, channels), weight, sums[q]);
            }
          }
        }
      }
      _Pragma("unroll") for (int q = 0; q < PIXELS; ++q)
        if (q < pixels) {
          tile_store(sums[q], bias + c, residual + (row + ow + q) * p.ldr + c, y + (row + ow + q) * p.ldy + c, channels, p.epilogue);
          if (!is_simple(p.epilogue.activation)) tile_finish(y + (row + ow + q) * p.ldy + c, 1, p.ldy, channels, p.epilogue);
        }
    }
  }
}
