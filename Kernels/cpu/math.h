// Elementary functions on vectors, for the CPU family: polynomials that give the same bits from both compilers.
//
// Coefficients: Chebyshev fits in double precision (Tools/reference/polynomials.py); errors against double precision are
// below 2 units in the last place (erf, tanh, exp, log) where the result is not subnormal.
#ifndef GRAFT_CPU_MATH_H
#define GRAFT_CPU_MATH_H
#include "common/dialect.h"
#include "common/params.h"
#include "cpu/element.h"

INLINE floatv fill(float value) { return SPLAT(value); }

// exp(x): 2^n exp(r) with |r| <= ln 2 / 2; r in two parts (Cody and Waite).
INLINE floatv exp_v(floatv x) {
  floatv n = ROUNDV(MINV(MAXV(x, fill(-104.0f)), fill(89.0f)) * fill(1.442695041f));
  floatv r = FMAV(n, fill(-0.693145752f), MINV(MAXV(x, fill(-104.0f)), fill(89.0f)));
  r = FMAV(n, fill(-1.428606820e-6f), r);
  floatv p = fill(1.989197075e-4f);
  p = FMAV(p, r, fill(1.392692065e-3f));
  p = FMAV(p, r, fill(8.333310034e-3f));
  p = FMAV(p, r, fill(4.166655014e-2f));
  p = FMAV(p, r, fill(1.666666668e-1f));
  p = FMAV(p, r, fill(0.5f));
  p = FMAV(p * r, r, r) + fill(1.0f);
  // 2^n in two factors, so that the largest and the subnormal results come out right.
  intv whole = TO_INTV(n);
  intv lower = whole >> 1;
  floatv a = BITS_FLOATV((lower + 127) << 23);
  floatv b = BITS_FLOATV((whole - lower + 127) << 23);
  floatv y = p * a * b;
  // A NaN stays one: min and max above may have lost it.
  return SELECTV(x, y, x == x);
}

// log(x) for x > 0; -inf at 0, NaN below.
INLINE floatv log_v(floatv x) {
  floatv scaled = SELECTV(x, x * fill(16777216.0f), x < fill(1.17549435e-38f));
  floatv offset = SELECTV(fill(0.0f), fill(-24.0f), x < fill(1.17549435e-38f));
  intv bits = FLOATV_BITS(scaled);
  // The mantissa into [sqrt(1/2), sqrt 2).
  intv shifted = bits - 0x3F3504F3;
  intv exponent = shifted >> 23;
  floatv f = BITS_FLOATV(bits - (exponent << 23)) - fill(1.0f);
  floatv e = TO_FLOATV(exponent) + offset;
  floatv p = fill(7.149753453e-2f);
  p = FMAV(p, f, fill(-1.157120107e-1f));
  p = FMAV(p, f, fill(1.166151142e-1f));
  p = FMAV(p, f, fill(-1.241105064e-1f));
  p = FMAV(p, f, fill(1.424993648e-1f));
  p = FMAV(p, f, fill(-1.666848024e-1f));
  p = FMAV(p, f, fill(2.000070748e-1f));
  p = FMAV(p, f, fill(-2.499998905e-1f));
  p = FMAV(p, f, fill(3.333333119e-1f));
  floatv s = f * f;
  floatv y = FMAV(p * s, f, FMAV(e, fill(-2.121944400e-4f), s * fill(-0.5f)));
  y = FMAV(e, fill(0.693359375f), f + y);
  y = SELECTV(y, BITS_FLOATV((intv)(0x7F800000)), x == BITS_FLOATV((intv)(0x7F800000)));
  y = SELECTV(y, BITS_FLOATV((intv)((int)0xFF800000)), x == fill(0.0f));
  return SELECTV(BITS_FLOATV((intv)(0x7FC00000)), y, x >= fill(0.0f));
}

INLINE floatv sigmoid_v(floatv x) { return fill(1.0f) / (fill(1.0f) + exp_v(-x)); }

INLINE floatv tanh_v(floatv x) {
  floatv s = x * x;
  floatv p = fill(2.272704711e-3f);
  p = FMAV(p, s, fill(-8.326402090e-3f));
  p = FMAV(p, s, fill(2.176363361e-2f));
  p = FMAV(p, s, fill(-5.395862421e-2f));
  p = FMAV(p, s, fill(1.333330097e-1f));
  p = FMAV(p, s, fill(-3.333333316e-1f));
  floatv small = FMAV(p * s, x, x);
  floatv t = ABSV(x);
  floatv large = fill(1.0f) - fill(2.0f) / (exp_v(t + t) + fill(1.0f));
  large = SELECTV(large, -large, x < fill(0.0f));
  return SELECTV(large, small, t < fill(0.625f));
}

// erf(x): x + x p(x^2) near zero, 1 - exp(q(|x|)) beyond.
INLINE floatv erf_v(floatv x) {
  floatv s = x * x;
  floatv p = fill(8.209796836e-5f);
  p = FMAV(p, s, fill(-8.104441948e-4f));
  p = FMAV(p, s, fill(5.197642555e-3f));
  p = FMAV(p, s, fill(-2.685803196e-2f));
  p = FMAV(p, s, fill(1.128367102e-1f));
  p = FMAV(p, s, fill(-3.761263217e-1f));
  p = FMAV(p, s, fill(1.283791665e-1f));
  floatv small = FMAV(p, x, x);
  floatv a = ABSV(x);
  floatv t = MINV(a, fill(4.0f));
  floatv q = fill(-4.986728381e-8f);
  q = FMAV(q, t, fill(2.725838772e-6f));
  q = FMAV(q, t, fill(-5.634694081e-5f));
  q = FMAV(q, t, fill(6.519366291e-4f));
  q = FMAV(q, t, fill(-4.943775647e-3f));
  q = FMAV(q, t, fill(2.681811408e-2f));
  q = FMAV(q, t, fill(-1.106310163e-1f));
  q = FMAV(q, t, fill(-6.313521465e-1f));
  q = FMAV(q, t, fill(-1.130462406f));
  q = FMAV(q, t, fill(3.674469107e-4f));
  floatv large = fill(1.0f) - exp_v(q);
  large = SELECTV(large, -large, x < fill(0.0f));
  return SELECTV(SELECTV(large, x, x != x), small, a < fill(0.95f));
}

// The activations that cost more than a few instructions: out of line, so that the tiles' epilogues stay small.
OUTLINE floatv activate_smooth(floatv x, int kind, float alpha, float beta) {
  switch (kind) {
  case GRAFT_ACTIVATION_LEAKY_RELU: return SELECTV(x, x * fill(alpha), x < fill(0.0f));
  case GRAFT_ACTIVATION_SIGMOID: return sigmoid_v(x);
  case GRAFT_ACTIVATION_TANH: return tanh_v(x);
  case GRAFT_ACTIVATION_HARD_SIGMOID: return MINV(MAXV(FMAV(x, fill(alpha), fill(beta)), fill(0.0f)), fill(1.0f));
  case GRAFT_ACTIVATION_HARD_SWISH:
    return x * MINV(MAXV(FMAV(x, fill(0.16666667f), fill(0.5f)), fill(0.0f)), fill(1.0f));
  case GRAFT_ACTIVATION_SILU: return x / (fill(1.0f) + exp_v(-x));
  case GRAFT_ACTIVATION_GELU: return x * fill(0.5f) * (fill(1.0f) + erf_v(x * fill(0.70710678f)));
  case GRAFT_ACTIVATION_GELU_TANH:
    return x * fill(0.5f) * (fill(1.0f) + tanh_v(fill(0.79788456f) * FMAV(fill(0.044715f) * x * x, x, x)));
  case GRAFT_ACTIVATION_ERF: return erf_v(x);
  case GRAFT_ACTIVATION_EXP: return exp_v(x);
  case GRAFT_ACTIVATION_LOG: return log_v(x);
  case GRAFT_ACTIVATION_SQRT: return SQRTV(x);
  case GRAFT_ACTIVATION_RECIPROCAL: return fill(1.0f) / x;
  case GRAFT_ACTIVATION_NEGATE: return -x;
  case GRAFT_ACTIVATION_ABSOLUTE: return ABSV(x);
  case GRAFT_ACTIVATION_ELU: return SELECTV(x, fill(alpha) * (exp_v(x) - fill(1.0f)), x < fill(0.0f));
  case GRAFT_ACTIVATION_SOFTPLUS: return MAXV(x, fill(0.0f)) + log_v(fill(1.0f) + exp_v(-ABSV(x)));
  default: return x;
  }
}

// Comparisons rather than max: a NaN has to stay visible.
INLINE floatv activate_simple(floatv x, int kind, float alpha, float beta) {
  if (kind == GRAFT_ACTIVATION_RELU) return SELECTV(x, fill(0.0f), x < fill(0.0f));
  if (kind == GRAFT_ACTIVATION_CLIP) {
    x = SELECTV(x, fill(alpha), x < fill(alpha));
    return SELECTV(x, fill(beta), x > fill(beta));
  }
  return x;
}

INLINE bool is_simple(int kind) { return kind <= GRAFT_ACTIVATION_CLIP; }

INLINE floatv activate(floatv x, int kind, float alpha, float beta) {
  return is_simple(kind) ? activate_simple(x, kind, alpha, beta) : activate_smooth(x, kind, alpha, beta);
}

// The sum (greatest) of a vector's elements, halving each time: a fixed order.
INLINE float sum_of(floatv value) {
  float part[VW];
  STOREV_PRIVATE(value, part);
  for (int step = VW / 2; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) part[i] += part[i + step];
  return part[0];
}

INLINE float maximum_of(floatv value) {
  float part[VW];
  STOREV_PRIVATE(value, part);
  for (int step = VW / 2; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) part[i] = part[i] > part[i + step] ? part[i] : part[i + step];
  return part[0];
}

#endif
