// What a training step does to parameters and their state. They are float32 whatever the gradients' format, so that small steps on
// large weights are not lost; every sum has a fixed order. Work-items are named at each kernel.
#include "gpu/rows.h"

// partial[firstPart + part] = sum of x[i]^2 over a part of p.partLength elements. Work-groups: parts.
__kernel ROWS_GROUP void square_sums(__global const element *restrict x, __global float *restrict partial, const GraftSquareSumParams p) {
  __local float scratch[ROW_SCRATCH];
  size_t first = (size_t)get_group_id(0) * p.partLength, end = min(first + (size_t)p.partLength, (size_t)p.count);
  float sum = 0.0f;
  for (size_t i = first + get_local_id(0); i < end; i += ROW_ITEMS) {
    float value = widen(x[i]);
    sum = MULTIPLY_ADD(value, value, sum);
  }
  sum = row_total(sum, scratch, false);
  if (get_local_id(0) == 0) partial[p.firstPart + get_group_id(0)] = sum;
}

// y[0] = sum of partial[i] over p.count of them. Work-groups: one.
__kernel ROWS_GROUP void square_sum_total(__global const float *restrict partial, __global float *restrict y, const GraftSquareSumParams p) {
  __local float scratch[ROW_SCRATCH];
  float sum = 0.0f;
  for (size_t i = get_local_id(0); i < (size_t)p.count; i += ROW_ITEMS) sum += partial[i];
  sum = row_total(sum, scratch, false);
  if (get_local_id(0) == 0) y[0] = sum;
}

// y = y factors[0] + x factors[1]. A factor of zero takes nothing, not even what is no number. Work-items: elements.
__kernel void blend(
    __global float *restrict y, __global const element *restrict x, __global const float *restrict factors, const GraftOptimizerParams p) {
  size_t i = get_global_id(0);
  if (i >= (size_t)p.count) return;
  float value = factors[1] == 0.0f ? 0.0f : widen(x[i]) * factors[1];
  y[i] = factors[0] == 0.0f ? value : MULTIPLY_ADD(y[i], factors[0], value);
}

// One step of SGD with momentum, or of AdamW (GraftOptimizerParams says which; rates are GRAFT_RATE_… of params.h).
// Work-items: elements.
__kernel void optimizer_step(
    __global float *restrict parameter, __global const element *restrict gradient, __global float *restrict first,
    __global float *restrict second, __global const float *restrict rates, __global const float *restrict squares,
    const GraftOptimizerParams p) {
  size_t i = get_global_id(0);
  if (i >= (size_t)p.count) return;
  float scale = rates[GRAFT_RATE_GRADIENT], norm2 = squares[0] * scale * scale, limit = rates[GRAFT_RATE_NORM_LIMIT];
  // Nothing moves where the gradient is not finite, or while gradients are being gathered.
  if (rates[GRAFT_RATE_APPLIES] == 0.0f || !(norm2 <= 3.0e38f)) return;
  if (limit > 0.0f && norm2 > limit * limit) scale *= limit / sqrt(norm2);
  float rate = rates[GRAFT_RATE_LEARNING] * p.rateScale, decay = p.decays ? rates[GRAFT_RATE_WEIGHT_DECAY] : 0.0f;
  float beta1 = rates[GRAFT_RATE_BETA1], beta2 = rates[GRAFT_RATE_BETA2];
  float w = parameter[i], g = widen(gradient[i]) * scale, m = first[i];
  if (p.kind == GRAFT_OPTIMIZER_SGD) {
    g = MULTIPLY_ADD(w, decay, g);
    m = MULTIPLY_ADD(m, beta1, g);
    w -= (p.nesterov ? MULTIPLY_ADD(m, beta1, g) : m) * rate;
  } else {
    w *= 1.0f - rate * decay;
    m = MULTIPLY_ADD(g - m, 1.0f - beta1, m);
    float v = MULTIPLY_ADD(g * g, 1.0f - beta2, second[i] * beta2);
    w -= rate / rates[GRAFT_RATE_CORRECTION1] * m / (sqrt(v / rates[GRAFT_RATE_CORRECTION2]) + rates[GRAFT_RATE_EPSILON]);
    second[i] = v;
  }
  first[i] = m;
  parameter[i] = w;
}
