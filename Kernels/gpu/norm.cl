// Normalisations across the channels of a row, channels last.
#include "gpu/rows.h"

// Local response normalisation (Krizhevsky et al. 2012; ONNX LRN): channel c's window is [c - (size-1)/2, c + size/2].
// Work-items: elements; the window's channels come from the nearest cache.
__kernel void lrn(__global const float *restrict x, __global float *restrict y, const GraftLRNParams p) {
  size_t index = get_global_id(0);
  if (index >= (size_t)p.rows * p.channels) return;
  uint row = (uint)index / (uint)p.channels;
  int c = (int)((uint)index - row * p.channels);
  x += (size_t)row * p.ldx;
  int first = max(c - (p.size - 1) / 2, 0), last = min(c + p.size / 2, p.channels - 1);
  float squares = 0.0f;
  for (int i = first; i <= last; ++i) squares = MULTIPLY_ADD(x[i], x[i], squares);
  y[(size_t)row * p.ldy + c] = x[c] * powr(MULTIPLY_ADD(squares, p.alpha / p.size, p.k), -p.beta);
}

// y = (x - mean) / sqrt(variance + epsilon) scale[c] + shift[c]; mean and variance over the row's channels (Ba et al. 2016),
// the variance from deviations, so that a large mean costs no digits. Work-groups: ROW_COUNT rows of ROW_ITEMS work-items.
__kernel ROWS_GROUP void layer_norm(
    __global const float *restrict x, __global const float *restrict scale, __global const float *restrict shift,
    __global float *restrict y, const GraftLayerNormParams p) {
  __local float scratch[ROW_SCRATCH];
  size_t row = row_index();
  int lane = row_lane(), channels = row < (size_t)p.rows ? p.channels : 0;
  x += row * p.ldx;
  y += row * p.ldy;
  float total = 0.0f, squares = 0.0f;
  for (int c = lane; c < channels; c += ROW_ITEMS) total += x[c];
  float mean = row_total(total, scratch, false) / p.channels;
  for (int c = lane; c < channels; c += ROW_ITEMS) {
    float deviation = x[c] - mean;
    squares = MULTIPLY_ADD(deviation, deviation, squares);
  }
  float factor = 1.0f / sqrt(row_total(squares, scratch, false) / p.channels + p.epsilon);
  for (int c = lane; c < channels; c += ROW_ITEMS) {
    float value = (x[c] - mean) * factor;
    if (p.hasScale) value *= scale[c];
    if (p.hasShift) value += shift[c];
    y[c] = value;
  }
}
