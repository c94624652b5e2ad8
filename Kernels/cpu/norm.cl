// Normalisations across the channels of a row, channels last. Work-items: x blocks of NORM_ROWS rows.
#include "cpu/math.h"

#define NORM_ROWS 16

// Local response normalisation (Krizhevsky et al. 2012; ONNX LRN): channel c's window is [c - (size-1)/2, c + size/2].
KERNEL2(lrn, GLOBAL const element *x, GLOBAL element *y, GraftLRNParams) {
  int before = (p.size - 1) / 2, after = p.size / 2;
  float factor = p.alpha / p.size;
  for (graft_long row = (graft_long)ITEM_X * NORM_ROWS; row < p.rows && row < ((graft_long)ITEM_X + 1) * NORM_ROWS; ++row) {
    GLOBAL const element *from = x + row * p.ldx;
    for (int c = 0; c < p.channels; c += VW) {
      int channels = min(VW, p.channels - c);
      floatv squares = SPLAT(0.0f);
      if (c - before >= 0 && c + VW + after <= p.channels) {
        for (int o = -before; o <= after; ++o) {
          floatv value = LOADE(from + c + o);
          squares = FMAV(value, value, squares);
        }
      } else {
        float part[VW];
        for (int i = 0; i < VW; ++i) {
          part[i] = 0.0f;
          for (int o = max(c + i - before, 0); i < channels && o <= min(c + i + after, p.channels - 1); ++o) part[i] = fma(element_at(from + o), element_at(from + o), part[i]);
        }
        squares = LOADV_PRIVATE(part);
      }
      // base^-beta; the base is k plus a sum of squares, so positive for every k > 0.
      floatv base = FMAV(squares, SPLAT(factor), SPLAT(p.k));
      store_part(load_part(from + c, channels) * exp_v(log_v(base) * SPLAT(-p.beta)), y + row * p.ldy + c, channels);
    }
  }
}

// y = (x - mean) / sqrt(variance + epsilon) scale[c] + shift[c]; mean and variance over the row's channels (Ba et al. 2016).
KERNEL4(layer_norm, GLOBAL const element *x, GLOBAL const float *scale, GLOBAL const float *shift, GLOBAL element *y, GraftLayerNormParams) {
  for (graft_long row = (graft_long)ITEM_X * NORM_ROWS; row < p.rows && row < ((graft_long)ITEM_X + 1) * NORM_ROWS; ++row) {
    GLOBAL const element *from = x + row * p.ldx;
    floatv total = SPLAT(0.0f);
    for (int c = 0; c < p.channels; c += VW) total += load_part(from + c, min(VW, p.channels - c));
    float mean = sum_of(total) / p.channels, squares = 0.0f;
    floatv deviations = SPLAT(0.0f);
    int c = 0;
    for (; c + VW <= p.channels; c += VW) {
      floatv d = LOADE(from + c) - SPLAT(mean);
      deviations = FMAV(d, d, deviations);
    }
    for (; c < p.channels; ++c) squares = fma(element_at(from + c) - mean, element_at(from + c) - mean, squares);
    squares += sum_of(deviations);
    floatv factor = SPLAT(1.0f) / SQRTV(SPLAT(squares / p.channels + p.epsilon));
    for (c = 0; c < p.channels; c += VW) {
      int channels = min(VW, p.channels - c);
      floatv value = (load_part(from + c, channels) - SPLAT(mean)) * factor;
      if (p.hasScale) value *= float_part(scale + c, channels);
      if (p.hasShift) value += float_part(shift + c, channels);
      store_part(value, y + row * p.ldy + c, channels);
    }
  }
}
