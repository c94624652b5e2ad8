// The limits of a processor, to compare kernels with: multiply-adds that never leave the registers, and memory that is only
// read, or read and written. The host chooses the grid and counts (Sources/GraftDevice/Peak).
#include "cpu/tile.h"

// Independent chains of multiply-adds: as many as the registers hold beside two operands, and at least the latency of one
// times how many begin in a cycle (4 · 2 on today's x86, 4 · 4 on the widest ARM).
#define PEAK_CHAINS (6 * PANEL_VECTORS)

INLINE float peak_sum(floatv value) {
  float part[VW], sum = 0.0f;
  STOREV_PRIVATE(value, part);
  for (int e = 0; e < VW; ++e) sum += part[e];
  return sum;
}

// x = x factor + term, p.repeats times in PEAK_CHAINS VW numbers that begin at the number of their chain. y[item]: their sum.
// Written as a product and a sum, which the compiler joins where the processor has a fused multiply-add: SSE2 has none, and
// would call a function for fma().
KERNEL1(peak_fma, GLOBAL float *y, GraftPeakParams) {
  floatv x[PEAK_CHAINS];
  floatv factor = SPLAT(p.factor), term = SPLAT(p.term);
  _Pragma("unroll") for (int c = 0; c < PEAK_CHAINS; ++c) x[c] = SPLAT((float)c);
  for (int r = 0; r < p.repeats; ++r) {
    _Pragma("unroll") for (int c = 0; c < PEAK_CHAINS; ++c) x[c] = x[c] * factor + term;
  }
  floatv sum = SPLAT(0.0f);
  _Pragma("unroll") for (int c = 0; c < PEAK_CHAINS; ++c) sum += x[c];
  y[ITEM_X] = peak_sum(sum);
}

// Vectors a step of the loops over memory moves: p.count is a multiple of PEAK_STEP VW.
#define PEAK_STEP 8

// y[item] = the sum of its p.count floats of x, p.repeats times.
KERNEL2(peak_read, GLOBAL const float *x, GLOBAL float *y, GraftPeakParams) {
  GLOBAL const float *from = x + (size_t)ITEM_X * p.count;
  floatv sums[PEAK_STEP];
  _Pragma("unroll") for (int v = 0; v < PEAK_STEP; ++v) sums[v] = SPLAT(0.0f);
  for (int r = 0; r < p.repeats; ++r)
    for (graft_long i = 0; i < p.count; i += PEAK_STEP * VW) {
      _Pragma("unroll") for (int v = 0; v < PEAK_STEP; ++v) sums[v] += LOADV(from + i + v * VW);
    }
  floatv sum = SPLAT(0.0f);
  _Pragma("unroll") for (int v = 0; v < PEAK_STEP; ++v) sum += sums[v];
  y[ITEM_X] = peak_sum(sum);
}

// a = b + factor c (McCalpin's STREAM triad): an item's a, b and c lie one behind the other, p.count floats each.
KERNEL1(peak_triad, GLOBAL float *x, GraftPeakParams) {
  GLOBAL float *a = x + (size_t)ITEM_X * 3 * p.count;
  GLOBAL const float *b = a + p.count;
  GLOBAL const float *c = b + p.count;
  floatv factor = SPLAT(p.factor);
  for (int r = 0; r < p.repeats; ++r)
    for (graft_long i = 0; i < p.count; i += PEAK_STEP * VW) {
      _Pragma("unroll") for (int v = 0; v < PEAK_STEP; ++v) {
        graft_long at = i + v * VW;
        STOREV(LOADV(c + at) * factor + LOADV(b + at), a + at);
      }
    }
}
