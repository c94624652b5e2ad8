// Softmax and the loss of a classifier, shifted by the greatest logit so that nothing overflows. The loss is float32 whatever the
// format of a network's values is; a softmax is computed in float32 and rounded once.
#include "gpu/rows.h"

// y[row, i] = exp(x[row, i] - max) / sum, or its logarithm; inner = 1. Work-groups: ROW_COUNT rows of ROW_ITEMS work-items.
__kernel ROWS_GROUP void softmax_rows(__global const element *restrict x, __global element *restrict y, const GraftSoftmaxParams p) {
  __local float scratch[ROW_SCRATCH];
  size_t row = row_index();
  int lane = row_lane(), length = row < (size_t)p.outer ? p.length : 0;
  x += row * p.length;
  y += row * p.length;
  float greatest = -INFINITY, total = 0.0f;
  for (int i = lane; i < length; i += ROW_ITEMS) {
    float value = widen(x[i]);
    greatest = value > greatest ? value : greatest;
  }
  greatest = row_total(greatest, scratch, true);
  for (int i = lane; i < length; i += ROW_ITEMS) total += exp(widen(x[i]) - greatest);
  total = row_total(total, scratch, false);
  float scale = 1.0f / total, shift = log(total);
  for (int i = lane; i < length; i += ROW_ITEMS) {
    float value = widen(x[i]) - greatest;
    y[i] = narrow(p.logarithm ? value - shift : exp(value) * scale);
  }
}

// The same over the middle dimension of [outer, length, inner]. Work-items: (outer, inner), neighbours in inner.
__kernel void softmax_columns(__global const element *restrict x, __global element *restrict y, const GraftSoftmaxParams p) {
  uint index = (uint)get_global_id(0);
  if (index >= (uint)p.outer * (uint)p.inner) return;
  uint outer = index / (uint)p.inner;
  size_t start = (size_t)outer * p.length * p.inner + (index - outer * p.inner);
  x += start;
  y += start;
  float greatest = -INFINITY, total = 0.0f;
  for (int i = 0; i < p.length; ++i) {
    float value = widen(x[(size_t)i * p.inner]);
    greatest = value > greatest ? value : greatest;
  }
  for (int i = 0; i < p.length; ++i) total += exp(widen(x[(size_t)i * p.inner]) - greatest);
  float scale = 1.0f / total, shift = log(total);
  for (int i = 0; i < p.length; ++i) {
    size_t at = (size_t)i * p.inner;
    float value = widen(x[at]) - greatest;
    y[at] = narrow(p.logarithm ? value - shift : exp(value) * scale);
  }
}

// loss[row] = log sum exp(logits[row]) - logits[row, label], gradient[row] = softmax(logits[row]) - onehot(label). A label
// that is no class marks a row that does not count: loss and gradient 0. Work-groups as softmax_rows.
__kernel ROWS_GROUP void cross_entropy(
    __global const float *restrict logits, __global const int *restrict labels, __global float *restrict loss,
    __global float *restrict gradient, const GraftCrossEntropyParams p) {
  __local float scratch[ROW_SCRATCH];
  size_t row = row_index();
  bool exists = row < (size_t)p.rows;
  int lane = row_lane(), classes = exists ? p.classes : 0, label = exists ? labels[row] : -1;
  bool counts = label >= 0 && label < p.classes;
  logits += row * p.ldx;
  gradient += row * p.classes;
  float greatest = -INFINITY, rest = 0.0f;
  for (int i = lane; i < classes; i += ROW_ITEMS) greatest = logits[i] > greatest ? logits[i] : greatest;
  greatest = row_total(greatest, scratch, true);
  // The label's share apart: where the row is nearly right, its loss and its gradient are the others' share, and a difference
  // from 1 would be rounding.
  for (int i = lane; i < classes; i += ROW_ITEMS) rest += i == label ? 0.0f : exp(logits[i] - greatest);
  rest = row_total(rest, scratch, false);
  float own = counts ? exp(logits[label] - greatest) : 0.0f, scale = 1.0f / (rest + own);
  for (int i = lane; i < classes; i += ROW_ITEMS)
    gradient[i] = counts ? (i == label ? -rest : exp(logits[i] - greatest)) * scale : 0.0f;
  if (exists && lane == 0)
    loss[row] = !counts ? 0.0f : own > rest ? log1p(rest / own) : log(rest + own) + (greatest - logits[label]);
}

// The loss of each row against targets [rows, classes], and its gradient (Graph/Operations/SampleLoss.swift has the formulas).
// Work-groups as softmax_rows.
__kernel ROWS_GROUP void sample_loss(
    __global const float *restrict outputs, __global const float *restrict targets, __global float *restrict loss,
    __global float *restrict gradient, const GraftLossParams p) {
  __local float scratch[ROW_SCRATCH];
  size_t row = row_index();
  bool exists = row < (size_t)p.rows;
  int lane = row_lane(), classes = exists ? p.classes : 0;
  outputs += row * p.classes;
  targets += row * p.classes;
  gradient += row * p.classes;
  float sum = 0.0f;
  if (p.kind == GRAFT_LOSS_CROSS_ENTROPY) {
    float greatest = -INFINITY, total = 0.0f, share = 0.0f;
    for (int i = lane; i < classes; i += ROW_ITEMS) greatest = outputs[i] > greatest ? outputs[i] : greatest;
    greatest = row_total(greatest, scratch, true);
    for (int i = lane; i < classes; i += ROW_ITEMS) {
      total += exp(outputs[i] - greatest);
      share += targets[i];
    }
    total = row_total(total, scratch, false);
    share = row_total(share, scratch, false) / total;
    float level = log(total);
    for (int i = lane; i < classes; i += ROW_ITEMS) {
      sum = MULTIPLY_ADD(targets[i], level + (greatest - outputs[i]), sum);
      gradient[i] = exp(outputs[i] - greatest) * share - targets[i];
    }
  } else {
    for (int i = lane; i < classes; i += ROW_ITEMS) {
      float value = outputs[i], distance = value - targets[i], slope = distance;
      if (p.kind == GRAFT_LOSS_SIGMOID) {
        slope = 1.0f / (1.0f + exp(-value)) - targets[i];
        sum += max(value, 0.0f) + log(1.0f + exp(-fabs(value))) - targets[i] * value;
      } else {
        if (p.kind == GRAFT_LOSS_HUBER) slope = min(max(distance, -p.delta), p.delta);
        sum += (distance - 0.5f * slope) * slope;
      }
      gradient[i] = slope;
    }
  }
  sum = row_total(sum, scratch, false);
  if (exists && lane == 0) loss[row] = sum;
}
