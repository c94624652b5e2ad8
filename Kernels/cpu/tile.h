// The inner loop of GEMM and convolution on CPUs: a tile of MR rows by NV vectors of sums that stay in registers.
//
// Packed weights: output channels in panels of PANEL_VECTORS VW, the last panel only as wide as it needs (whole vectors).
// Panel q of a group begins at  K q PANEL  and holds  [K, width]:  element (k, o) at  K q PANEL + k width + o - q PANEL,
// K = taps c.  A row's values come from a pointer, so a k×k convolution is a sum over its taps of pointers that move
// (the indirection of Dukhan, "The Indirect Convolution Algorithm", 2019), without an im2col buffer.
//
// Registers (AVX-512: 32): MR NV sums + NV weights + 1 broadcast. Each k loads NV vectors and MR scalars for MR NV FMAs:
//     NV 4: MR 6  (24 sums, 10 loads)    NV 3: MR 8 (24, 11)    NV 2: MR 12 (24, 14)    NV 1: MR 12 (12, 13)
// With 16 registers (AVX2, SSE): NV 2: MR 6 (12 sums, 8 loads), NV 1: MR 12.
#ifndef GRAFT_CPU_TILE_H
#define GRAFT_CPU_TILE_H
#include "common/params.h"
#include "cpu/math.h"

// Vectors in a full panel; weights are packed for it, so it is part of a device's traits.
#ifndef PANEL_VECTORS
#if VW == 16
#define PANEL_VECTORS 4
#else
#define PANEL_VECTORS 2
#endif
#endif
#define PANEL (PANEL_VECTORS * VW)
#define MAX_ROWS 12

#if PANEL_VECTORS == 4
#define ROWS_OF_2 12
#else
#define ROWS_OF_2 6
#endif

// Rows a tile of `vectors` vectors has.
INLINE int tile_rows(int vectors) { return vectors == 4 ? 6 : vectors == 3 ? 8 : vectors == 2 ? ROWS_OF_2 : 12; }

// Rows of weights that `count` channels of a tap take: 16-bit weights lie in pairs of k, the last of an odd count beside zeros.
#if GRAFT_STORAGE == GRAFT_FLOAT32
#define TAP_ROWS(count) (count)
#else
#define TAP_ROWS(count) (((count) + 1) / 2 * 2)
#endif

// sums[m][v] += a[m][k] w[k][v] for k < count.
#if GRAFT_STORAGE == GRAFT_FLOAT32

#define TILE_ACCUMULATE(MR, NV)                                                                       \
  for (int k = 0; k < count; ++k) {                                                                   \
    floatv w[NV];                                                                                     \
    _Pragma("unroll") for (int v = 0; v < NV; ++v) w[v] = LOADV(weights + v * VW);                    \
    weights += NV * VW;                                                                               \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                  \
      floatv value = SPLAT(a[m][k]);                                                                  \
      _Pragma("unroll") for (int v = 0; v < NV; ++v) sums[m][v] = FMAV(value, w[v], sums[m][v]);      \
    }                                                                                                 \
  }

#elif defined(DOT_PAIRS)

INLINE int load_pair(GLOBAL const element *source) {
  int pair;
  memcpy(&pair, source, sizeof pair);
  return pair;
}
typedef intv intv_unaligned __attribute__((aligned(2)));
#define LOAD_PAIRS(pointer) (*(const intv_unaligned *)(pointer))

// Two neighbouring k at once: element (k, o) of a panel at  (k / 2) 2 width + 2 o + k % 2. The last of an odd count is loaded
// alone, for what follows it may be anything, or the end of memory.
#define TILE_PAIR(MR, NV, PAIR)                                                                       \
  {                                                                                                   \
    intv w[NV];                                                                                       \
    _Pragma("unroll") for (int v = 0; v < NV; ++v) w[v] = LOAD_PAIRS(weights + v * 2 * VW);           \
    weights += NV * 2 * VW;                                                                           \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                  \
      intv value = (intv)(PAIR);                                                                      \
      _Pragma("unroll") for (int v = 0; v < NV; ++v) sums[m][v] = DOT_PAIRS(sums[m][v], value, w[v]); \
    }                                                                                                 \
  }
#define TILE_ACCUMULATE(MR, NV)                                                                       \
  {                                                                                                   \
    int k = 0;                                                                                        \
    for (; k + 1 < count; k += 2) TILE_PAIR(MR, NV, load_pair(a[m] + k))                              \
    if (k < count) TILE_PAIR(MR, NV, a[m][k])                                                         \
  }

#else

// Converted: a part of each row becomes float32 in the nearest cache, weights as they are loaded. Values of a short row are
// widened one by one: reading back what has just been written would take longer.
#define TILE_PART 64
#define TILE_SHORT 16
#define TILE_MULTIPLY(MR, NV, VALUE)                                                                  \
  for (int k = 0; k < length; ++k) {                                                                  \
    floatv w[NV];                                                                                     \
    _Pragma("unroll") for (int v = 0; v < NV; ++v) w[v] = LOADE(weights + v * VW);                    \
    weights += NV * VW;                                                                               \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                  \
      floatv value = VALUE;                                                                           \
      _Pragma("unroll") for (int v = 0; v < NV; ++v) sums[m][v] = FMAV(value, w[v], sums[m][v]);      \
    }                                                                                                 \
  }
#define TILE_ACCUMULATE(MR, NV)                                                                       \
  if (count <= TILE_SHORT) {                                                                          \
    const int length = count;                                                                         \
    TILE_MULTIPLY(MR, NV, widen((ushortv)(a[m][k])))                                                  \
  } else {                                                                                            \
    for (int first = 0; first < count; first += TILE_PART) {                                          \
      const int length = min(TILE_PART, count - first);                                               \
      float wide[MR][TILE_PART] __attribute__((aligned(64)));                                         \
      for (int k = 0; k < length; k += VW) {                                                          \
        _Pragma("unroll") for (int m = 0; m < MR; ++m)                                                \
          STOREV_PRIVATE(load_part(a[m] + first + k, length - k), wide[m] + k);                       \
      }                                                                                               \
      TILE_MULTIPLY(MR, NV, SPLAT(wide[m][k]))                                                        \
    }                                                                                                 \
  }                                                                                                   \
  weights += (TAP_ROWS(count) - count) * NV * VW;

#endif

// One vector of sums out: bias, residual, simple activations.
INLINE void tile_store_whole(
    floatv sum, GLOBAL const float *bias, GLOBAL const element *residual, GLOBAL element *y, const GraftEpilogue epilogue) {
  if (epilogue.hasBias) sum += LOADV(bias);
  if (epilogue.hasResidual) sum += LOADE(residual);
  STOREE(activate_simple(sum, epilogue.activation, epilogue.alpha, epilogue.beta), y);
}

// Only the channels there are.
INLINE void tile_store(
    floatv sum, GLOBAL const float *bias, GLOBAL const element *residual, GLOBAL element *y, int channels, const GraftEpilogue epilogue) {
  if (channels >= VW) {
    tile_store_whole(sum, bias, residual, y, epilogue);
  } else {
    if (epilogue.hasBias) sum += float_part(bias, channels);
    if (epilogue.hasResidual) sum += load_part(residual, channels);
    store_part(activate_simple(sum, epilogue.activation, epilogue.alpha, epilogue.beta), y, channels);
  }
}

// The rest, from sums that were put aside, rows `width` apart: the other activations, since a call among the sums would spill
// them all, and parts of vectors where they take more than a masked instruction.
OUTLINE void tile_finish(
    float *kept, int width, GLOBAL const float *bias, GLOBAL const element *residual, GLOBAL element *y, int rows, int ldr, int ldy,
    int channels, const GraftEpilogue epilogue) {
  const bool isSimple = is_simple(epilogue.activation);
  for (int m = 0; m < rows; ++m)
    for (int c = 0; c < channels; c += VW) {
      int count = min(VW, channels - c);
      floatv sum = LOADV_PRIVATE(kept + m * width + c);
      if (epilogue.hasBias) sum += float_part(bias + c, count);
      if (epilogue.hasResidual) sum += load_part(residual + (size_t)m * ldr + c, count);
      if (isSimple) store_part(activate_simple(sum, epilogue.activation, epilogue.alpha, epilogue.beta), y + (size_t)m * ldy + c, count);
      else STOREV_PRIVATE(sum, kept + m * width + c);
    }
  if (isSimple) return;
  activate_vectors(kept, rows * width / VW, epilogue.activation, epilogue.alpha, epilogue.beta);
  for (int m = 0; m < rows; ++m)
    for (int c = 0; c < channels; c += VW) store_part(LOADV_PRIVATE(kept + m * width + c), y + (size_t)m * ldy + c, min(VW, channels - c));
}

#if defined(STORE_FIRST_FLOATS) && (GRAFT_STORAGE == GRAFT_FLOAT32 || defined(STORE_FIRST_BITS))
#define STORES_PARTS 1
#else
#define STORES_PARTS 0
#endif

// Stores the first `rows` rows of a tile; `y` and `residual` point at its first row and channel.
#define TILE_STORE(MR, NV)                                                                                                           \
  if (is_simple(epilogue.activation) && channels >= NV * VW) {                                                                       \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                                 \
      if (m < rows) {                                                                                                                \
        _Pragma("unroll") for (int v = 0; v < NV; ++v)                                                                               \
          tile_store_whole(sums[m][v], bias + v * VW, residual + (size_t)m * ldr + v * VW, y + (size_t)m * ldy + v * VW, epilogue);  \
      }                                                                                                                              \
    }                                                                                                                                \
  } else if (is_simple(epilogue.activation) && STORES_PARTS) {                                                                       \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                                                                 \
      if (m < rows) {                                                                                                                \
        _Pragma("unroll") for (int v = 0; v < NV; ++v)                                                                               \
          tile_store(sums[m][v], bias + v * VW, residual + (size_t)m * ldr + v * VW, y + (size_t)m * ldy + v * VW,                   \
                     channels - v * VW, epilogue);                                                                                   \
      }                                                                                                                              \
    }                                                                                                                                \
  } else {                                                                                                                           \
    float kept[MR * NV * VW];                                                                                                        \
    _Pragma("unroll") for (int m = 0; m < MR; ++m)                                                                                   \
      _Pragma("unroll") for (int v = 0; v < NV; ++v) STOREV_PRIVATE(sums[m][v], kept + (m * NV + v) * VW);                           \
    tile_finish(kept, NV * VW, bias, residual, y, rows, ldr, ldy, channels, epilogue);                                               \
  }

// Asks for what a tile adds at its end while its sums grow: rows lie too far apart for the hardware to guess.
#define TILE_EXPECT(MR, NV)                                                                       \
  if (epilogue.hasResidual) {                                                                     \
    _Pragma("unroll") for (int m = 0; m < MR; ++m) {                                              \
      GLOBAL const element *expected = residual + (size_t)(m < rows ? m : rows - 1) * ldr;        \
      _Pragma("unroll") for (int v = 0; v < NV; ++v) PREFETCH(expected + v * VW);                 \
    }                                                                                             \
  }

#define TILE_ZERO(MR, NV)                             \
  floatv sums[MR][NV];                                \
  _Pragma("unroll") for (int m = 0; m < MR; ++m)      \
    _Pragma("unroll") for (int v = 0; v < NV; ++v) sums[m][v] = SPLAT(0.0f);

#endif
