// Activations of the GPU family: one number at a time, from OpenCL's built-in functions.
//
// A program is compiled for one activation (ACTIVATION, a code of common/params.h), so that an epilogue that is unrolled
// 64 times holds one formula and not twenty. The four cheap ones share ACTIVATION 0 and are told apart by numbers at run
// time:  none, relu, clip and leaky relu are all  min(max(x < 0 ? slope x : x, low), high),  written with comparisons so
// that a NaN stays one.
//
// Formulas avoid cancellation: erfc for GELU's left tail, expm1 for ELU, log1p for softplus, and GELU's tanh form as
// x sigmoid(2u), since (1 + tanh u)/2 = sigmoid(2u).
#ifndef GRAFT_GPU_ACTIVATION_H
#define GRAFT_GPU_ACTIVATION_H
#include "gpu/element.h"

#ifndef ACTIVATION
#define ACTIVATION 0
#endif

// One rounding where the hardware has it, else whatever is fast.
#ifdef FP_FAST_FMAF
#define MULTIPLY_ADD(a, b, c) fma(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) mad(a, b, c)
#endif

typedef struct {
  float slope, low, high;  // ACTIVATION 0
  float alpha, beta;       // the others
} Activation;

static inline Activation activation_of(const GraftEpilogue e) {
  Activation a = {1.0f, -INFINITY, INFINITY, e.alpha, e.beta};
  if (e.activation == GRAFT_ACTIVATION_RELU) a.low = 0.0f;
  if (e.activation == GRAFT_ACTIVATION_CLIP) {
    a.low = e.alpha;
    a.high = e.beta;
  }
  if (e.activation == GRAFT_ACTIVATION_LEAKY_RELU) a.slope = e.alpha;
  return a;
}

static inline float limit(float x, float low, float high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

static inline float activate(float x, const Activation a) {
  switch (ACTIVATION) {
  case GRAFT_ACTIVATION_SIGMOID: return 1.0f / (1.0f + exp(-x));
  case GRAFT_ACTIVATION_TANH: return tanh(x);
  case GRAFT_ACTIVATION_HARD_SIGMOID: return limit(MULTIPLY_ADD(x, a.alpha, a.beta), 0.0f, 1.0f);
  case GRAFT_ACTIVATION_HARD_SWISH: return x * (1.0f / 6.0f) * limit(x + 3.0f, 0.0f, 6.0f);
  case GRAFT_ACTIVATION_SILU: return x / (1.0f + exp(-x));
  case GRAFT_ACTIVATION_GELU: return 0.5f * x * erfc(x * -0.70710678f);
  case GRAFT_ACTIVATION_GELU_TANH: return x / (1.0f + exp(-1.59576912f * MULTIPLY_ADD(0.044715f * x * x, x, x)));
  case GRAFT_ACTIVATION_ERF: return erf(x);
  case GRAFT_ACTIVATION_EXP: return exp(x);
  case GRAFT_ACTIVATION_LOG: return log(x);
  case GRAFT_ACTIVATION_SQRT: return sqrt(x);
  case GRAFT_ACTIVATION_RECIPROCAL: return 1.0f / x;
  case GRAFT_ACTIVATION_NEGATE: return -x;
  case GRAFT_ACTIVATION_ABSOLUTE: return fabs(x);
  case GRAFT_ACTIVATION_ELU: return x < 0.0f ? a.alpha * expm1(x) : x;
  case GRAFT_ACTIVATION_SOFTPLUS: return (x > 0.0f ? x : x != x ? x : 0.0f) + log1p(exp(-fabs(x)));
  default: return limit(x < 0.0f ? a.slope * x : x, a.low, a.high);
  }
}

#endif
