// Maximum and average pooling, channels last:  y[n, oh, ow, c] over the window's positions that lie inside the image.
//
// The divisor of an average is the number of those positions, or, with countsPadding, of those inside the padded image.
// A NaN in a window is its maximum. Work-items: VECTOR channels of one output pixel, channels first.
#include "gpu/activation.h"

#ifndef VECTOR
#define VECTOR 1  // 4 or 8 needs c, ldx, ldy and both starts to be multiples of it
#endif

__kernel void pool(__global const element *restrict x, __global element *restrict y, const GraftPoolParams p) {
  uint vectors = (uint)p.c / VECTOR;
  size_t index = get_global_id(0);
  if (index >= (size_t)p.n * p.oh * p.ow * vectors) return;
  uint pixel = (uint)(index / vectors), c = (uint)(index - (size_t)pixel * vectors) * VECTOR;
  uint row = pixel / p.ow, n = row / p.oh;
  int top = (int)(row - n * p.oh) * p.strideH - p.padH, left = (int)(pixel - row * p.ow) * p.strideW - p.padW;
  x += (size_t)n * p.h * p.w * p.ldx + c;
  float value[VECTOR], next[VECTOR];
  for (int e = 0; e < VECTOR; ++e) value[e] = p.average ? 0.0f : -INFINITY;
  int counted = 0;
  for (int i = 0; i < p.kh; ++i) {
    int h = top + i * p.dilationH;
    for (int j = 0; j < p.kw; ++j) {
      int w = left + j * p.dilationW;
      bool inside = h >= 0 && h < p.h && w >= 0 && w < p.w;
      counted += inside || (p.countsPadding && h < p.h + p.padEndH && w < p.w + p.padEndW);
      if (!inside) continue;
      load_elements(x + ((size_t)h * p.w + w) * p.ldx, next, VECTOR);
      for (int e = 0; e < VECTOR; ++e)
        value[e] = p.average ? value[e] + next[e] : next[e] > value[e] || next[e] != next[e] ? next[e] : value[e];
    }
  }
  float scale = p.average ? (counted > 0 ? 1.0f / counted : 0.0f) : 1.0f;
  for (int e = 0; e < VECTOR; ++e) value[e] *= scale;
  store_elements(value, y + (size_t)pixel * p.ldy + c, VECTOR);
}
