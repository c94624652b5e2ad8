// Softmax and the loss of a classifier, in float32 whatever the format of a network's values: both lose too much in a shorter
// one. Sums have a fixed order. Work-items are named at each kernel.
#include "cpu/math.h"

// What a work-item takes of a softmax along rows, and of one across them.
#define SOFTMAX_ROWS 4
#define SOFTMAX_COLUMNS 16

// e^(x - greatest) into y if it is wanted there, and the sum: of one row of `length`.
INLINE float exponentials(GLOBAL const float *x, GLOBAL float *y, int length, float greatest, bool wanted) {
  floatv totals[CHAINS];
  _Pragma("unroll") for (int chain = 0; chain < CHAINS; ++chain) totals[chain] = SPLAT(0.0f);
  FOR_CHAINS(length, {
    floatv e = exp_factor_v(float_part(x + at, count) - SPLAT(greatest));
    if (count < VW) e = first_lanes(e, count, 0.0f);
    totals[chain] += e;
    // The row after this one is asked for meanwhile.
    PREFETCH(x + length + at);
    if (wanted) store_float_part(e, y + at, count);
  })
  return sum_of_chains(totals);
}

INLINE float greatest_of(GLOBAL const float *x, int length) {
  floatv greatest[CHAINS];
  _Pragma("unroll") for (int chain = 0; chain < CHAINS; ++chain) greatest[chain] = SPLAT(-INFINITY);
  FOR_CHAINS(length, {
    floatv value = float_part(x + at, count);
    if (count < VW) value = first_lanes(value, count, -INFINITY);
    greatest[chain] = MAXV(greatest[chain], value);
  })
  return maximum_of_chains(greatest);
}

INLINE void softmax_row(GLOBAL const float *x, GLOBAL float *y, int length, bool logarithm) {
  float greatest = greatest_of(x, length), total = exponentials(x, y, length, greatest, !logarithm);
  if (logarithm) {
    // In two steps: added to a large logit first, the total's logarithm would lose its digits.
    floatv level = log_v(SPLAT(total));
    FOR_CHAINS(length, store_float_part(float_part(x + at, count) - SPLAT(greatest) - level, y + at, count); (void)chain;)
  } else {
    float scale = 1.0f / total;
    FOR_CHAINS(length, store_float_part(float_part(y + at, count) * SPLAT(scale), y + at, count); (void)chain;)
  }
}

// Softmax over length of x[outer, length, inner]. Work-items: x blocks of SOFTMAX_ROWS rows where inner is 1; else x outer, y blocks
// of SOFTMAX_COLUMNS of inner.
KERNEL2(softmax, GLOBAL const float *x, GLOBAL float *y, GraftSoftmaxParams) {
  if (p.inner == 1) {
    int end = min(p.outer, (ITEM_X + 1) * SOFTMAX_ROWS);
    for (int row = ITEM_X * SOFTMAX_ROWS; row < end; ++row) softmax_row(x + (size_t)row * p.length, y + (size_t)row * p.length, p.length, p.logarithm);
    return;
  }
  size_t start = (size_t)ITEM_X * p.length * p.inner;
  int end = min(p.inner, (ITEM_Y + 1) * SOFTMAX_COLUMNS);
  for (int column = ITEM_Y * SOFTMAX_COLUMNS; column < end; column += VW) {
    int count = min(VW, end - column);
    GLOBAL const float *from = x + start + column;
    GLOBAL float *to = y + start + column;
    floatv greatest = SPLAT(-INFINITY), total = SPLAT(0.0f);
    for (int i = 0; i < p.length; ++i) greatest = MAXV(greatest, float_part(from + (size_t)i * p.inner, count));
    for (int i = 0; i < p.length; ++i) {
      floatv e = exp_factor_v(float_part(from + (size_t)i * p.inner, count) - greatest);
      total += e;
      if (!p.logarithm) store_float_part(e, to + (size_t)i * p.inner, count);
    }
    floatv scale = SPLAT(1.0f) / total, level = log_v(total);
    for (int i = 0; i < p.length; ++i) {
      size_t at = (size_t)i * p.inner;
      store_float_part(p.logarithm ? float_part(from + at, count) - greatest - level : float_part(to + at, count) * scale, to + at, count);
    }
  }
}

// log(1 + x) for x >= 0, also where 1 + x is rounded (Goldberg, "What every computer scientist should know about floating-point
// arithmetic", 1991, theorem 4).
INLINE float log_of_one_and(float x) {
  float sum = 1.0f + x;
  return sum == 1.0f ? x : log_v(SPLAT(sum)).s0 * x / (sum - 1.0f);
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
  float greatest = greatest_of(x, p.classes), total = exponentials(x, g, p.classes, greatest, true);
  float own = g[label], rest = total - own;
  if (own > rest) {
    // Where the row is nearly right, its loss and its gradient are the others' share: a difference from 1 would be rounding.
    floatv sums[CHAINS];
    _Pragma("unroll") for (int chain = 0; chain < CHAINS; ++chain) sums[chain] = SPLAT(0.0f);
    g[label] = 0.0f;
    FOR_CHAINS(p.classes, sums[chain] += float_part(g + at, count);)
    rest = sum_of_chains(sums);
    total = rest + own;
    loss[ITEM_X] = log_of_one_and(rest / own);
  } else {
    loss[ITEM_X] = log_v(SPLAT(total)).s0 + (greatest - x[label]);
  }
  float scale = 1.0f / total;
  FOR_CHAINS(p.classes, store_float_part(float_part(g + at, count) * SPLAT(scale), g + at, count); (void)chain;)
  g[label] = -rest * scale;
}

// The loss of each row against targets [rows, classes], and its gradient (Graph/Operations/SampleLoss.swift has the formulas).
// Work-items: x rows.
KERNEL4(sample_loss, GLOBAL const float *outputs, GLOBAL const float *targets, GLOBAL float *loss, GLOBAL float *gradient, GraftLossParams) {
  GLOBAL const float *x = outputs + (size_t)ITEM_X * p.classes, *t = targets + (size_t)ITEM_X * p.classes;
  GLOBAL float *g = gradient + (size_t)ITEM_X * p.classes;
  floatv sums[CHAINS], shares[CHAINS];
  _Pragma("unroll") for (int chain = 0; chain < CHAINS; ++chain) sums[chain] = shares[chain] = SPLAT(0.0f);
  if (p.kind == GRAFT_LOSS_CROSS_ENTROPY) {
    float greatest = greatest_of(x, p.classes), total = exponentials(x, g, p.classes, greatest, true);
    floatv level = log_v(SPLAT(total));
    FOR_CHAINS(p.classes, {
      floatv share = float_part(t + at, count);
      shares[chain] += share;
      // Beyond the row both are zero.
      sums[chain] = FMAV(share, level + (SPLAT(greatest) - float_part(x + at, count)), sums[chain]);
    })
    floatv scale = SPLAT(sum_of_chains(shares) / total);
    FOR_CHAINS(p.classes, store_float_part(float_part(g + at, count) * scale - float_part(t + at, count), g + at, count); (void)chain;)
  } else {
    floatv delta = SPLAT(p.delta);
    FOR_CHAINS(p.classes, {
      floatv value = float_part(x + at, count);
      floatv target = float_part(t + at, count);
      floatv slope;
      floatv size;
      if (p.kind == GRAFT_LOSS_SIGMOID) {
        slope = sigmoid_v(value) - target;
        size = MAXV(value, SPLAT(0.0f)) + log_v(SPLAT(1.0f) + exp_v(-ABSV(value))) - target * value;
        // log 2 where there is nothing.
        if (count < VW) size = first_lanes(size, count, 0.0f);
      } else {
        floatv distance = value - target;
        slope = p.kind == GRAFT_LOSS_HUBER ? MINV(MAXV(distance, -delta), delta) : distance;
        size = (distance - SPLAT(0.5f) * slope) * slope;
      }
      sums[chain] += size;
      store_float_part(slope, g + at, count);
    })
  }
  loss[ITEM_X] = sum_of_chains(sums);
}
