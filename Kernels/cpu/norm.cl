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
    GLOBAL element *to = y + row * p.ldy;
    floatv chains[CHAINS];
    _Pragma("unroll") for (int chain = 0; chain < CHAINS; ++chain) chains[chain] = SPLAT(0.0f);
    FOR_CHAINS(p.channels, chains[chain] += load_part(from + at, count);)
    float mean = sum_of_chains(chains) / p.channels;
    _Pragma("unroll") for (int chain = 0; chain < CHAINS; ++chain) chains[chain] = SPLAT(0.0f);
    // The row after this one is asked for meanwhile.
    FOR_CHAINS(p.channels, {
      floatv d = load_part(from + at, count) - SPLAT(mean);
      if (count < VW) d = first_lanes(d, count, 0.0f);
      chains[chain] = FMAV(d, d, chains[chain]);
      PREFETCH(from + p.ldx + at);
    })
    float factor = 1.0f / SQRTV(SPLAT(sum_of_chains(chains) / p.channels + p.epsilon)).s0;
    if (p.hasScale && p.hasShift) {
      FOR_CHAINS(p.channels, {
        floatv value = (load_part(from + at, count) - SPLAT(mean)) * SPLAT(factor);
        store_part(value * float_part(scale + at, count) + float_part(shift + at, count), to + at, count);
        (void)chain;
      })
      continue;
    }
    FOR_CHAINS(p.channels, {
      floatv value = (load_part(from + at, count) - SPLAT(mean)) * SPLAT(factor);
      if (p.hasScale) value *= float_part(scale + at, count);
      if (p.hasShift) value += float_part(shift + at, count);
      store_part(value, to + at, count);
      (void)chain;
    })
  }
}
