// Activations of the GPU family: one number at a time, from OpenCL's built-in functions.
//
// A program is compiled for one activation (ACTIVATION, a code of common/params.h), so that an epilogue that is unrolled
// 64 times holds one formula and not twenty. The four cheap ones share ACTIVATION 0 and are told apart by numbers at run
// time:  none, relu, clip and leaky relu are all  min(max(x < 0 ? slope x : x, low), high),  written with comparisons so
// that a NaN stays one.
//
// Formulas avoid cancellation: GELU's left tail by itself, expm1 for ELU, log1p for softplus, and GELU's tanh form as
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

// x Phi(x), Phi the normal distribution: with the tail 2 Phi(-t) = exp(t q(t)), where q is a Chebyshev fit of log(2 Phi(-t)) / t
// for t up to 5.5 (largest error of the result 1e-7; beyond, the tail is smaller than that). A driver's erfc is many times as
// long, and unrolled for each of a tile's sums it is more than compilers keep in registers.
static inline float gelu(float x) {
  float t = fabs(x), near = t < 5.5f ? t : 5.5f;
  float q = 2.723153813e-7f;
  q = MULTIPLY_ADD(q, near, -5.407544310e-6f);
  q = MULTIPLY_ADD(q, near, 4.464719591e-5f);
  q = MULTIPLY_ADD(q, near, -1.737532127e-4f);
  q = MULTIPLY_ADD(q, near, -3.241166644e-5f);
  q = MULTIPLY_ADD(q, near, 4.849937651e-3f);
  q = MULTIPLY_ADD(q, near, -3.637221265e-2f);
  q = MULTIPLY_ADD(q, near, -3.182999601e-1f);
  q = MULTIPLY_ADD(q, near, -7.978855680e-1f);
  float tail = 0.5f * near * exp(t * q);
  return x < 0.0f ? -tail : x - tail;
}

static inline float activate(float x, const Activation a) {
  switch (ACTIVATION) {
  case GRAFT_ACTIVATION_SIGMOID: return 1.0f / (1.0f + exp(-x));
  case GRAFT_ACTIVATION_TANH: return tanh(x);
  case GRAFT_ACTIVATION_HARD_SIGMOID: return limit(MULTIPLY_ADD(x, a.alpha, a.beta), 0.0f, 1.0f);
  case GRAFT_ACTIVATION_HARD_SWISH: return x * (1.0f / 6.0f) * limit(x + 3.0f, 0.0f, 6.0f);
  case GRAFT_ACTIVATION_SILU: return x / (1.0f + exp(-x));
  case GRAFT_ACTIVATION_GELU: return gelu(x);
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
