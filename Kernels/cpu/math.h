// Elementary functions on vectors, for the CPU family: polynomials that give the same bits from both compilers.
//
// Coefficients: Chebyshev fits in double precision; errors against double precision are
// below 2 units in the last place (erf, tanh, exp, log) where the result is not subnormal.
#ifndef GRAFT_CPU_MATH_H
#define GRAFT_CPU_MATH_H
#include "common/dialect.h"
#include "common/params.h"
#include "cpu/element.h"

INLINE floatv fill(float value) { return SPLAT(value); }

// Between two limits; a NaN stays one.
INLINE floatv clamp_v(floatv x, float low, float high) {
  x = SELECTV(x, fill(high), x > fill(high));
  return SELECTV(x, fill(low), x < fill(low));
}

// exp(x) = 2^n exp(r) with |r| <= ln 2 / 2; r in two parts (Cody and Waite). Adding 1.5 2^23 rounds to whole numbers and leaves
// n in the low bits of the sum: bits - EXP_ZERO.
#define EXP_ROUND 12582912.0f
#define EXP_ZERO 0x4B400000
INLINE floatv exp_of_rest(floatv x, floatv rounded) {
  floatv n = rounded - fill(EXP_ROUND);
  floatv r = FMAV(n, fill(-0.693145752f), x);
  r = FMAV(n, fill(-1.428606820e-6f), r);
  floatv p = fill(1.989197075e-4f);
  p = FMAV(p, r, fill(1.392692065e-3f));
  p = FMAV(p, r, fill(8.333310034e-3f));
  p = FMAV(p, r, fill(4.166655014e-2f));
  p = FMAV(p, r, fill(1.666666668e-1f));
  p = FMAV(p, r, fill(0.5f));
  return FMAV(p * r, r, r) + fill(1.0f);
}

INLINE floatv exp_v(floatv x) {
  x = clamp_v(x, -104.0f, 89.0f);
  floatv rounded = FMAV(x, fill(1.442695041f), fill(EXP_ROUND));
  // 2^n in two factors, so that the largest and the subnormal results come out right.
  intv whole = FLOATV_BITS(rounded) - EXP_ZERO, lower = whole >> 1;
  return exp_of_rest(x, rounded) * BITS_FLOATV((lower + 127) << 23) * BITS_FLOATV((whole - lower + 127) << 23);
}

// The same where a factor of a sum or a quotient is wanted: what is below the smallest normal number may be 0, and what is
// above 2^127.5 infinite. 2^n is one factor: n = -127 makes it 0, n = 128 infinity.
INLINE floatv exp_factor_v(floatv x) {
  x = clamp_v(x, -88.0f, 88.7f);
  floatv rounded = FMAV(x, fill(1.442695041f), fill(EXP_ROUND));
  return exp_of_rest(x, rounded) * BITS_FLOATV((FLOATV_BITS(rounded) << 23) + (127 << 23));
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

INLINE floatv sigmoid_v(floatv x) { return fill(1.0f) / (fill(1.0f) + exp_factor_v(-x)); }

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
  floatv large = fill(1.0f) - fill(2.0f) / (exp_factor_v(t + t) + fill(1.0f));
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
  floatv large = fill(1.0f) - exp_factor_v(q);
  large = SELECTV(large, -large, x < fill(0.0f));
  return SELECTV(SELECTV(large, x, x != x), small, a < fill(0.95f));
}

INLINE floatv hard_sigmoid_v(floatv x, float alpha, float beta) { return MINV(MAXV(FMAV(x, fill(alpha), fill(beta)), fill(0.0f)), fill(1.0f)); }
INLINE floatv gelu_v(floatv x) { return x * fill(0.5f) * (fill(1.0f) + erf_v(x * fill(0.70710678f))); }
INLINE floatv gelu_tanh_v(floatv x) {
  return x * fill(0.5f) * (fill(1.0f) + tanh_v(fill(0.79788456f) * FMAV(fill(0.044715f) * x * x, x, x)));
}

// The activations that cost more than a few instructions: CASE(kind, its value at x).
#define SMOOTH_ACTIVATIONS(CASE)                                                                              \
  CASE(GRAFT_ACTIVATION_LEAKY_RELU, SELECTV(x, x * fill(alpha), x < fill(0.0f)))                              \
  CASE(GRAFT_ACTIVATION_SIGMOID, sigmoid_v(x))                                                                \
  CASE(GRAFT_ACTIVATION_TANH, tanh_v(x))                                                                      \
  CASE(GRAFT_ACTIVATION_HARD_SIGMOID, hard_sigmoid_v(x, alpha, beta))                                         \
  CASE(GRAFT_ACTIVATION_HARD_SWISH, x * hard_sigmoid_v(x, 0.16666667f, 0.5f))                                 \
  CASE(GRAFT_ACTIVATION_SILU, x / (fill(1.0f) + exp_factor_v(-x)))                                            \
  CASE(GRAFT_ACTIVATION_GELU, gelu_v(x))                                                                      \
  CASE(GRAFT_ACTIVATION_GELU_TANH, gelu_tanh_v(x))                                                            \
  CASE(GRAFT_ACTIVATION_ERF, erf_v(x))                                                                        \
  CASE(GRAFT_ACTIVATION_EXP, exp_v(x))                                                                        \
  CASE(GRAFT_ACTIVATION_LOG, log_v(x))                                                                        \
  CASE(GRAFT_ACTIVATION_SQRT, SQRTV(x))                                                                       \
  CASE(GRAFT_ACTIVATION_RECIPROCAL, fill(1.0f) / x)                                                           \
  CASE(GRAFT_ACTIVATION_NEGATE, -x)                                                                           \
  CASE(GRAFT_ACTIVATION_ABSOLUTE, ABSV(x))                                                                    \
  CASE(GRAFT_ACTIVATION_ELU, SELECTV(x, fill(alpha) * (exp_factor_v(x) - fill(1.0f)), x < fill(0.0f)))        \
  CASE(GRAFT_ACTIVATION_SOFTPLUS, MAXV(x, fill(0.0f)) + log_v(fill(1.0f) + exp_factor_v(-ABSV(x))))

// Out of line, so that the tiles' epilogues stay small.
#define RETURN_CASE(kind, value) case kind: return value;
OUTLINE floatv activate_smooth(floatv x, int kind, float alpha, float beta) {
  switch (kind) {
    SMOOTH_ACTIVATIONS(RETURN_CASE)
  default: return x;
  }
}

// The same for `count` vectors in place, with one loop an activation: its constants stay in registers, and vectors overlap.
#define LOOP_OF_CASE(kind, value)                     \
  case kind:                                          \
    for (int i = 0; i < count; ++i) {                 \
      floatv x = LOADV_PRIVATE(values + i * VW);      \
      STOREV_PRIVATE(value, values + i * VW);         \
    }                                                 \
    break;
OUTLINE void activate_vectors(float *values, int count, int kind, float alpha, float beta) {
  switch (kind) {
    SMOOTH_ACTIVATIONS(LOOP_OF_CASE)
  default: break;
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
#define SUM_HALVES(v) ((v).lo + (v).hi)
#define GREATER_HALF(v) MAXV((v).lo, (v).hi)
#if VW == 16
#define FOLD(HALVE, v) HALVE(HALVE(HALVE(HALVE(v))))
#elif VW == 8
#define FOLD(HALVE, v) HALVE(HALVE(HALVE(v)))
#else
#define FOLD(HALVE, v) HALVE(HALVE(v))
#endif
INLINE float sum_of(floatv value) { return FOLD(SUM_HALVES, value); }
INLINE float maximum_of(floatv value) { return FOLD(GREATER_HALF, value); }

// The first `count` elements; `rest` for the others.
INLINE floatv first_lanes(floatv value, int count, float rest) {
#if VW == 16
  const intv lanes = INTV(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#elif VW == 8
  const intv lanes = INTV(0, 1, 2, 3, 4, 5, 6, 7);
#else
  const intv lanes = INTV(0, 1, 2, 3);
#endif
  return SELECTV(fill(rest), value, lanes < count);
}

// Long rows are walked four vectors at a time: four independent chains, added up (compared) in this order.
#define CHAINS 4
INLINE float sum_of_chains(const floatv *chains) { return sum_of((chains[0] + chains[1]) + (chains[2] + chains[3])); }
INLINE float maximum_of_chains(const floatv *chains) { return maximum_of(MAXV(MAXV(chains[0], chains[1]), MAXV(chains[2], chains[3]))); }

// Runs BODY for every vector of `length` elements:  at (its first element), chain (known to the compiler) and count (VW, except
// at the end).
#define FOR_CHAINS(length, BODY)                                              \
  {                                                                           \
    int start = 0;                                                            \
    for (; start + CHAINS * VW <= (length); start += CHAINS * VW) {           \
      _Pragma("unroll") for (int chain = 0; chain < CHAINS; ++chain) {        \
        const int at = start + chain * VW, count = VW;                        \
        BODY                                                                  \
      }                                                                       \
    }                                                                         \
    for (int at = start; at < (length); at += VW) {                           \
      const int chain = 0, count = min(VW, (length) - at);                    \
      BODY                                                                    \
    }                                                                         \
  }

#endif
