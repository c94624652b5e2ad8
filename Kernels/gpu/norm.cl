// Normalisations across the channels of a row, channels last.
#include "gpu/rows.h"

// Local response normalisation (Krizhevsky et al. 2012; ONNX LRN): channel c's window is [c - (size-1)/2, c + size/2].
// Work-items: elements; the window's channels come from the nearest cache.
__kernel void lrn(__global const element *restrict x, __global element *restrict y, const GraftLRNParams p) {
  size_t index = get_global_id(0);
  if (index >= (size_t)p.rows * p.channels) return;
  uint row = (uint)index / (uint)p.channels;
  int c = (int)((uint)index - row * p.channels);
  x += (size_t)row * p.ldx;
  int first = max(c - (p.size - 1) / 2, 0), last = min(c + p.size / 2, p.channels - 1);
  float squares = 0.0f;
  for (int i = first; i <= last; ++i) {
    float value = widen(x[i]);
    squares = MULTIPLY_ADD(value, value, squares);
  }
  y[(size_t)row * p.ldy + c] = narrow(widen(x[c]) * powr(MULTIPLY_ADD(squares, p.alpha / p.size, p.k), -p.beta));
}

#ifndef VECTOR
#define VECTOR 1  // of `layer_norm`: 4 or 8 needs channels, ldx and ldy to be multiples of it
#endif

// y = (x - mean) / sqrt(variance + epsilon) scale[c] + shift[c]; mean and variance over the row's channels (Ba et al. 2016),
// the variance from deviations, so that a large mean costs no digits. The row is read three times, twice from the nearest
// cache. Work-groups: ROW_COUNT rows of ROW_ITEMS work-items, which take VECTOR channels at a time.
__kernel ROWS_GROUP void layer_norm(
    __global const element *restrict x, __global const float *restrict scale, __global const float *restrict shift,
    __global element *restrict y, const GraftLayerNormParams p) {
  __local float scratch[ROW_SCRATCH];
  size_t row = row_index();
  int first = row_lane() * VECTOR, channels = row < (size_t)p.rows ? p.channels : 0;
  x += row * p.ldx;
  y += row * p.ldy;
  float value[VECTOR], parameter[VECTOR], total = 0.0f, squares = 0.0f;
  for (int c = first; c < channels; c += ROW_ITEMS * VECTOR) {
    load_elements(x + c, value, VECTOR);
    for (int e = 0; e < VECTOR; ++e) total += value[e];
  }
  float mean = row_total(total, scratch, false) / p.channels;
  for (int c = first; c < channels; c += ROW_ITEMS * VECTOR) {
    load_elements(x + c, value, VECTOR);
    for (int e = 0; e < VECTOR; ++e) squares = MULTIPLY_ADD(value[e] - mean, value[e] - mean, squares);
  }
  float factor = 1.0f / sqrt(row_total(squares, scratch, false) / p.channels + p.epsilon);
  for (int c = first; c < channels; c += ROW_ITEMS * VECTOR) {
    load_elements(x + c, value, VECTOR);
    for (int e = 0; e < VECTOR; ++e) value[e] = (value[e] - mean) * factor;
    if (p.hasScale) {
      load_floats(scale + c, parameter, VECTOR);
      for (int e = 0; e < VECTOR; ++e) value[e] *= parameter[e];
    }
    if (p.hasShift) {
      load_floats(shift + c, parameter, VECTOR);
      for (int e = 0; e < VECTOR; ++e) value[e] += parameter[e];
    }
    store_elements(value, y + c, VECTOR);
  }
}
