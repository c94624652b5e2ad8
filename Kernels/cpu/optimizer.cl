// What a training step does to parameters and their state. They are float32 whatever the gradients' format, so that small steps on
// large weights are not lost; every sum has a fixed order. Work-items are named at each kernel.
#include "cpu/math.h"

// partial[firstPart + part] = sum of x[i]^2 over a part. Work-items: parts of p.partLength elements.
KERNEL2(square_sums, GLOBAL const element *x, GLOBAL float *partial, GraftSquareSumParams) {
  graft_long first = (graft_long)ITEM_X * p.partLength, end = min(first + p.partLength, p.count);
  floatv sums[4] = {SPLAT(0.0f), SPLAT(0.0f), SPLAT(0.0f), SPLAT(0.0f)};
  graft_long i = first;
  for (; i + 4 * VW <= end; i += 4 * VW) {
    _Pragma("unroll") for (int chain = 0; chain < 4; ++chain) {
      floatv value = LOADE(x + i + chain * VW);
      sums[chain] = FMAV(value, value, sums[chain]);
    }
  }
  for (; i < end; i += VW) {
    floatv value = load_part(x + i, (int)min(end - i, (graft_long)VW));
    sums[0] = FMAV(value, value, sums[0]);
  }
  partial[p.firstPart + ITEM_X] = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// y[0] = sum of partial[i] over p.count of them. Work-items: one.
KERNEL2(square_sum_total, GLOBAL const float *partial, GLOBAL float *y, GraftSquareSumParams) {
  floatv sum = SPLAT(0.0f);
  for (graft_long i = 0; i < p.count; i += VW) sum += float_part(partial + i, (int)min(p.count - i, (graft_long)VW));
  y[0] = sum_of(sum);
}

// y = y factors[0] + x factors[1]. A factor of zero takes nothing, not even what is no number. Work-items: parts of STEP_PART elements.
#define STEP_PART 16384
KERNEL3(blend, GLOBAL float *y, GLOBAL const element *x, GLOBAL const float *factors, GraftOptimizerParams) {
  graft_long first = (graft_long)ITEM_X * STEP_PART, end = min(first + STEP_PART, p.count);
  floatv kept = SPLAT(factors[0]), added = SPLAT(factors[1]);
  for (graft_long i = first; i < end; i += VW) {
    int count = (int)min(end - i, (graft_long)VW);
    floatv value = factors[1] == 0.0f ? SPLAT(0.0f) : load_part(x + i, count) * added;
    if (factors[0] != 0.0f) value = FMAV(float_part(y + i, count), kept, value);
    store_float_part(value, y + i, count);
  }
}

// One step of SGD with momentum, or of AdamW (GraftOptimizerParams says which; rates are GRAFT_RATE_… of params.h).
// Work-items: parts of STEP_PART elements.
KERNEL6(
    optimizer_step, GLOBAL float *parameter, GLOBAL const element *gradient, GLOBAL float *first, GLOBAL float *second,
    GLOBAL const float *rates, GLOBAL const float *squares, GraftOptimizerParams) {
  float scale = rates[GRAFT_RATE_GRADIENT], norm2 = squares[0] * scale * scale, limit = rates[GRAFT_RATE_NORM_LIMIT];
  // Nothing moves where the gradient is not finite, or while gradients are being gathered.
  if (rates[GRAFT_RATE_APPLIES] == 0.0f || !(norm2 <= 3.0e38f)) return;
  if (limit > 0.0f && norm2 > limit * limit) scale *= limit / SQRTV(SPLAT(norm2)).s0;
  float rate = rates[GRAFT_RATE_LEARNING] * p.rateScale, decay = p.decays ? rates[GRAFT_RATE_WEIGHT_DECAY] : 0.0f;
  float beta1 = rates[GRAFT_RATE_BETA1], beta2 = rates[GRAFT_RATE_BETA2], epsilon = rates[GRAFT_RATE_EPSILON];
  float step1 = rate / rates[GRAFT_RATE_CORRECTION1], correction2 = 1.0f / rates[GRAFT_RATE_CORRECTION2];
  graft_long from = (graft_long)ITEM_X * STEP_PART, end = min(from + STEP_PART, p.count);
  for (graft_long i = from; i < end; i += VW) {
    int count = (int)min(end - i, (graft_long)VW);
    floatv w = float_part(parameter + i, count), g = load_part(gradient + i, count) * SPLAT(scale), m = float_part(first + i, count);
    if (p.kind == GRAFT_OPTIMIZER_SGD) {
      g = FMAV(w, SPLAT(decay), g);
      m = FMAV(m, SPLAT(beta1), g);
      w -= (p.nesterov ? FMAV(m, SPLAT(beta1), g) : m) * SPLAT(rate);
    } else {
      w *= SPLAT(1.0f - rate * decay);
      m = FMAV(g - m, SPLAT(1.0f - beta1), m);
      floatv v = float_part(second + i, count) * SPLAT(beta2);
      v = FMAV(g * g, SPLAT(1.0f - beta2), v);
      w -= SPLAT(step1) * m / (SQRTV(v * SPLAT(correction2)) + SPLAT(epsilon));
      store_float_part(v, second + i, count);
    }
    store_float_part(m, first + i, count);
    store_float_part(w, parameter + i, count);
  }
}
