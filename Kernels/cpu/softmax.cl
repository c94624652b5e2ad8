// Softmax and the loss of a classifier, in float32 whatever the format of a network's values: both lose too much in a shorter
// one. Sums have a fixed order. Work-items are named at each kernel.
#include "cpu/math.h"

// Softmax over length of x[outer, length, inner]. Work-items: x outer, y inner.
KERNEL2(softmax, GLOBAL const float *x, GLOBAL float *y, GraftSoftmaxParams) {
  size_t start = (size_t)ITEM_X * p.length * p.inner + ITEM_Y;
  float greatest = -INFINITY, total = 0.0f;
  if (p.inner == 1) {
    int i;
    floatv greatestV = SPLAT(-INFINITY), totalV = SPLAT(0.0f);
    for (i = 0; i + VW <= p.length; i += VW) greatestV = MAXV(greatestV, LOADV(x + start + i));
    greatest = maximum_of(greatestV);
    for (; i < p.length; ++i) greatest = x[start + i] > greatest ? x[start + i] : greatest;
    for (i = 0; i < p.length; i += VW) {
      int count = min(VW, p.length - i);
      floatv e = exp_v(float_part(x + start + i, count) - SPLAT(greatest));
      store_float_part(e, y + start + i, count);
      if (count == VW) {
        totalV += e;
      } else {
        for (int j = 0; j < count; ++j) total += y[start + i + j];
      }
    }
    total += sum_of(totalV);
    float scale = 1.0f / total, shift = -greatest - log_v(SPLAT(total)).s0;
    for (i = 0; i < p.length; i += VW) {
      int count = min(VW, p.length - i);
      store_float_part(p.logarithm ? float_part(x + start + i, count) + SPLAT(shift) : float_part(y + start + i, count) * SPLAT(scale), y + start + i, count);
    }
    return;
  }
  for (int i = 0; i < p.length; ++i) greatest = max(greatest, x[start + (size_t)i * p.inner]);
  for (int i = 0; i < p.length; ++i) {
    float e = exp_v(SPLAT(x[start + (size_t)i * p.inner] - greatest)).s0;
    total += e;
    if (!p.logarithm) y[start + (size_t)i * p.inner] = e;
  }
  float scale = 1.0f / total, shift = greatest + log_v(SPLAT(total)).s0;
  for (int i = 0; i < p.length; ++i) {
    size_t at = start + (size_t)i * p.inner;
    y[at] = p.logarithm ? x[at] - shift : y[at] * scale;
  }
}

// loss[row] = log sum exp(logits[row]) - logits[row, label], gradient[row] = softmax(logits[row]) - onehot(label).
// Work-items: x rows. A label below 0 marks a row that does not count: loss and gradient 0.
KERNEL4(cross_entropy, GLOBAL const float *logits, GLOBAL const int *labels, GLOBAL float *loss, GLOBAL float *gradient, GraftCrossEntropyParams) {
  GLOBAL const float *x = logits + (size_t)ITEM_X * p.ldx;
  GLOBAL float *g = gradient + (size_t)ITEM_X * p.classes;
  int label = labels[ITEM_X];
  if (label < 0 || label >= p.classes) {
    for (int i = 0; i < p.classes; i += VW) store_float_part(SPLAT(0.0f), g + i, min(VW, p.classes - i));
    loss[ITEM_X] = 0.0f;
    return;
  }
  float greatest = -INFINITY, total = 0.0f;
  for (int i = 0; i < p.classes; ++i) greatest = max(greatest, x[i]);
  for (int i = 0; i < p.classes; i += VW) {
    int count = min(VW, p.classes - i);
    store_float_part(exp_v(float_part(x + i, count) - SPLAT(greatest)), g + i, count);
    for (int j = 0; j < count; ++j) total += g[i + j];
  }
  loss[ITEM_X] = log_v(SPLAT(total)).s0 + greatest - x[label];
  for (int i = 0; i < p.classes; i += VW) {
    int count = min(VW, p.classes - i);
    store_float_part(float_part(g + i, count) * SPLAT(1.0f / total), g + i, count);
  }
  g[label] -= 1.0f;
}
