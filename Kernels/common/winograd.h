// Winograd's transforms of one dimension, for 3×3 convolutions at stride 1: F(4, 3) and F(2, 3), which nested make F(4×4, 3×3) and
// F(2×2, 3×3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
//
//     Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        g: 3×3 weights, d: (m+2)² inputs, Y: m² outputs
//
// F(4×4) takes its points at 0, ±1/√2, ±√2 and ∞ rather than 0, ±1, ±2 and ∞: against double precision the largest error over
// 256 channels is 1.9e-6 of the largest value instead of 7.4e-6 (F(2×2), points 0, ±1 and ∞: 5e-7).
//
// For values of type `floatv`, with SPLAT(x) and FMAV(a, b, c) = a b + c: a family's vectors of channels.
#ifndef GRAFT_COMMON_WINOGRAD_H
#define GRAFT_COMMON_WINOGRAD_H

#define HALF_ROOT 0.70710678118654752f  // √½
#define ROOT 1.41421356237309505f       // √2

// G g: three weights of a column to six (or four) values.
#define WEIGHTS_4(g0, g1, g2, to, step)                                        \
  {                                                                                                                                  \
    floatv even = g0 + g2 * SPLAT(0.5f), odd = g1 * SPLAT(HALF_ROOT);                                                                \
    floatv even2 = g0 + g2 * SPLAT(2.0f), odd2 = g1 * SPLAT(ROOT);                                                                   \
    (to)[0] = g0;                                                                                                                    \
    (to)[1 * (step)] = (even + odd) * SPLAT(-2.0f / 3.0f);                                                                           \
    (to)[2 * (step)] = (even - odd) * SPLAT(-2.0f / 3.0f);                                                                           \
    (to)[3 * (step)] = (even2 + odd2) * SPLAT(1.0f / 6.0f);                                                                          \
    (to)[4 * (step)] = (even2 - odd2) * SPLAT(1.0f / 6.0f);                                                                          \
    (to)[5 * (step)] = g2;                                                                                                           \
  }
#define WEIGHTS_2(g0, g1, g2, to, step)                     \
  {                                                                                                                                  \
    (to)[0] = g0;                                                                                                                    \
    (to)[1 * (step)] = (g0 + g1 + g2) * SPLAT(0.5f);                                                                                 \
    (to)[2 * (step)] = (g0 - g1 + g2) * SPLAT(0.5f);                                                                                 \
    (to)[3 * (step)] = g2;                                                                                                           \
  }

// Bᵀ d.
#define INPUT_4(d0, d1, d2, d3, d4, d5, to, step)                                                              \
  {                                                                                                                                  \
    floatv even = FMAV(d2, SPLAT(-2.0f), d4), odd = SPLAT(HALF_ROOT) * FMAV(d1, SPLAT(-2.0f), d3);                                   \
    floatv even2 = FMAV(d2, SPLAT(-0.5f), d4), odd2 = SPLAT(ROOT) * FMAV(d1, SPLAT(-0.5f), d3);                                      \
    (to)[0] = FMAV(d2, SPLAT(-2.5f), d4 + d0);                                                                                       \
    (to)[1 * (step)] = even + odd;                                                                                                   \
    (to)[2 * (step)] = even - odd;                                                                                                   \
    (to)[3 * (step)] = even2 + odd2;                                                                                                 \
    (to)[4 * (step)] = even2 - odd2;                                                                                                 \
    (to)[5 * (step)] = FMAV(d3, SPLAT(-2.5f), d5 + d1);                                                                              \
  }
#define INPUT_2(d0, d1, d2, d3, to, step) \
  {                                                                                                                                  \
    (to)[0] = d0 - d2;                                                                                                               \
    (to)[1 * (step)] = d1 + d2;                                                                                                      \
    (to)[2 * (step)] = d2 - d1;                                                                                                      \
    (to)[3 * (step)] = d3 - d1;                                                                                                      \
  }

// Aᵀ m.
#define OUTPUT_4(m0, m1, m2, m3, m4, m5, to, step)                                                   \
  {                                                                                                                                  \
    floatv sum = m1 + m2, difference = m1 - m2, sum2 = m3 + m4, difference2 = m3 - m4;                                               \
    (to)[0] = m0 + sum + sum2;                                                                                                       \
    (to)[1 * (step)] = FMAV(difference2, SPLAT(ROOT), difference * SPLAT(HALF_ROOT));                                                \
    (to)[2 * (step)] = FMAV(sum2, SPLAT(2.0f), sum * SPLAT(0.5f));                                                                   \
    (to)[3 * (step)] = FMAV(difference2, SPLAT(2.0f * ROOT), FMAV(difference, SPLAT(0.5f * HALF_ROOT), m5));                         \
  }
#define OUTPUT_2(m0, m1, m2, m3, to, step) \
  {                                                                                                                                  \
    (to)[0] = m0 + m1 + m2;                                                                                                          \
    (to)[1 * (step)] = m1 - m2 + m3;                                                                                                 \
  }

#define COLUMNS6(MACRO, d, i, to, step) MACRO(d[6 * i], d[6 * i + 1], d[6 * i + 2], d[6 * i + 3], d[6 * i + 4], d[6 * i + 5], to, step)
#define COLUMNS4(MACRO, d, i, to, step) MACRO(d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3], to, step)

#endif
