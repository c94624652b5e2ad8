// Reductions over a middle dimension, softmax, and the loss of a classifier. Sums have a fixed order: elements in turn,
// then a vector's halves. Work-items are named at each kernel.
#include "cpu/math.h"

// y[outer, inner] = reduction over length of x[outer, length, inner]. Work-items: x outer, y blocks of REDUCE_INNER.
#define REDUCE_INNER 256
KERNEL2(reduce, GLOBAL const float *x, GLOBAL float *y, GraftReduceParams) {
  GLOBAL const float *from = x + (size_t)ITEM_X * p.length * p.ldx;
  GLOBAL float *to = y + (size_t)ITEM_X * p.ldy;
  float scale = p.operation == GRAFT_REDUCE_MEAN ? 1.0f / p.length : 1.0f;
  if (p.inner == 1 && p.ldx == 1) {
    // One long row: vectors along it.
    bool maximum = p.operation == GRAFT_REDUCE_MAXIMUM;
    floatv value = SPLAT(maximum ? -INFINITY : 0.0f);
    int i = 0;
    for (; i + VW <= p.length; i += VW) value = maximum ? MAXV(value, LOADV(from + i)) : value + LOADV(from + i);
    float result = maximum ? maximum_of(value) : sum_of(value);
    for (; i < p.length; ++i) result = maximum ? (from[i] > result ? from[i] : result) : result + from[i];
    to[0] = result * scale;
    return;
  }
  int firstInner = ITEM_Y * REDUCE_INNER, endInner = min(firstInner + REDUCE_INNER, p.inner);
  for (int c = firstInner; c < endInner; c += VW) {
    int count = min(VW, endInner - c);
    floatv value = SPLAT(p.operation == GRAFT_REDUCE_MAXIMUM ? -INFINITY : 0.0f);
    for (int i = 0; i < p.length; ++i) {
      floatv next = load_part(from + (size_t)i * p.ldx + c, count);
      value = p.operation == GRAFT_REDUCE_MAXIMUM ? MAXV(value, next) : value + next;
    }
    store_part(value * SPLAT(scale), to + c, count);
  }
}

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
      floatv e = exp_v(load_part(x + start + i, count) - SPLAT(greatest));
      store_part(e, y + start + i, count);
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
      store_part(p.logarithm ? load_part(x + start + i, count) + SPLAT(shift) : load_part(y + start + i, count) * SPLAT(scale), y + start + i, count);
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
    for (int i = 0; i < p.classes; i += VW) store_part(SPLAT(0.0f), g + i, min(VW, p.classes - i));
    loss[ITEM_X] = 0.0f;
    return;
  }
  float greatest = -INFINITY, total = 0.0f;
  for (int i = 0; i < p.classes; ++i) greatest = max(greatest, x[i]);
  for (int i = 0; i < p.classes; i += VW) {
    int count = min(VW, p.classes - i);
    store_part(exp_v(load_part(x + i, count) - SPLAT(greatest)), g + i, count);
    for (int j = 0; j < count; ++j) total += g[i + j];
  }
  loss[ITEM_X] = log_v(SPLAT(total)).s0 + greatest - x[label];
  for (int i = 0; i < p.classes; i += VW) {
    int count = min(VW, p.classes - i);
    store_part(load_part(g + i, count) * SPLAT(1.0f / total), g + i, count);
  }
  g[label] -= 1.0f;
}
