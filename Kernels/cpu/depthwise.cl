// Depthwise convolution (one input channel an output channel), channels last.
//
// Work-items: x output rows (n, oh). Along the row, four neighbouring pixels share each weight vector and the inputs they have
// in common, which are loaded (and widened) once for the usual sizes. Weights float32, [taps, c rounded up to whole vectors]
// (pack_depthwise).
#include "cpu/tile.h"

#define PIXELS 4

// sums[q] += x[left + q STRIDE + j] w[j] for j < KW; INPUT(column) loads a column's channels.
#define DEPTHWISE_LINE(KW, STRIDE, INPUT)                                                                                   \
  {                                                                                                                         \
    floatv inputs[(PIXELS - 1) * STRIDE + KW];                                                                              \
    _Pragma("unroll") for (int q = 0; q < (PIXELS - 1) * STRIDE + KW; ++q) inputs[q] = INPUT(left + q); \
    _Pragma("unroll") for (int j = 0; j < KW; ++j) {                                                                        \
      floatv weight = LOADV(w + (size_t)(i * KW + j) * rounded + c);                                                        \
      _Pragma("unroll") for (int q = 0; q < PIXELS; ++q) sums[q] = FMAV(inputs[q * STRIDE + j], weight, sums[q]);           \
    }                                                                                                                       \
  }

KERNEL5(depthwise, GLOBAL const element *x, GLOBAL const float *w, GLOBAL const float *bias, GLOBAL const element *residual, GLOBAL element *y, GraftConvParams) {
  int n = ITEM_X / p.oh, oh = ITEM_X - n * p.oh;
  int rounded = (p.c + VW - 1) / VW * VW;
  GLOBAL const element *image = x + (size_t)n * p.h * p.w * p.ldx;
  size_t row = (size_t)ITEM_X * p.ow;
  int top = oh * p.strideH - p.padH;
  // Kernel width and stride of the loops that are known to the compiler; 0 is any other.
  int known = p.dilationW == 1 && (p.strideW == 1 || p.strideW == 2) && (p.kw == 3 || p.kw == 5) ? p.kw * 2 + p.strideW : 0;
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
        GLOBAL const element *line = image + (size_t)h * p.w * p.ldx + c;
// Inside the image, and near its edges, where what lies beyond is zero.
#define INSIDE(column) LOADE(line + (ptrdiff_t)(column) * p.ldx)
#define NEAR_EDGE(column) ((uint)(column) < (uint)p.w ? load_part(line + (ptrdiff_t)(column) * p.ldx, channels) : SPLAT(0.0f))
        switch (known + (inside && channels == VW ? 100 : 0)) {
        case 100 + 3 * 2 + 1: DEPTHWISE_LINE(3, 1, INSIDE) break;
        case 100 + 3 * 2 + 2: DEPTHWISE_LINE(3, 2, INSIDE) break;
        case 100 + 5 * 2 + 1: DEPTHWISE_LINE(5, 1, INSIDE) break;
        case 100 + 5 * 2 + 2: DEPTHWISE_LINE(5, 2, INSIDE) break;
        case 3 * 2 + 1: DEPTHWISE_LINE(3, 1, NEAR_EDGE) break;
        case 3 * 2 + 2: DEPTHWISE_LINE(3, 2, NEAR_EDGE) break;
        case 5 * 2 + 1: DEPTHWISE_LINE(5, 1, NEAR_EDGE) break;
        case 5 * 2 + 2: DEPTHWISE_LINE(5, 2, NEAR_EDGE) break;
        default:
          for (int j = 0; j < p.kw; ++j) {
            floatv weight = LOADV(w + (size_t)(i * p.kw + j) * rounded + c);
            int first = left + j * p.dilationW;
            _Pragma("unroll") for (int q = 0; q < PIXELS; ++q) {
              int column = first + q * p.strideW;
              if (q < pixels && column >= 0 && column < p.w)
                sums[q] = FMAV(load_part(line + (ptrdiff_t)column * p.ldx, channels), weight, sums[q]);
            }
          }
        }
      }
      GLOBAL const element *added = residual + (row + ow) * p.ldr + c;
      GLOBAL element *to = y + (row + ow) * p.ldy + c;
      if (is_simple(p.epilogue.activation)) {
        _Pragma("unroll") for (int q = 0; q < PIXELS; ++q)
          if (q < pixels) tile_store(sums[q], bias + c, added + (size_t)q * p.ldr, to + (size_t)q * p.ldy, channels, p.epilogue);
      } else {
        float kept[PIXELS * VW];
        _Pragma("unroll") for (int q = 0; q < PIXELS; ++q) STOREV_PRIVATE(sums[q], kept + q * VW);
        tile_finish(kept, VW, bias + c, added, to, pixels, p.ldr, p.ldy, channels, p.epilogue);
      }
    }
  }
}
