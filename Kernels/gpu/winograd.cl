// 3×3 convolutions at stride 1 with fewer products, channels last: Winograd's F(4×4, 3×3) and F(2×2, 3×3) (common/winograd.h) in
// three launches, so that the products are those of gemm.cl.
//
//     winograd_weights   U[p] = (G g Gᵀ)[p]     [c', oc']     once, when the weights are constants
//     winograd_input     V[p] = (Bᵀ d B)[p]     [tiles, c']
//     gemm               M[p] = V[p] U[p]       [tiles, oc']  a batch of (m+2)², one for each position p in a transformed tile
//     winograd_output    Y = Aᵀ M A, bias, residual, activation
//
// c', oc': channels rounded up to a multiple of 4, with zeros, so that the products load and store whole vectors whatever the
// layer. Tiles are numbered through the batch (an image's rows of tiles one after the other); a launch takes p.tileCount of them
// from p.firstTile on, and V and M hold those alone:
//
//     V element at  (p tileCount + tile) c' + channel,    M alike with oc',    U element at  (p c' + channel) oc' + output
//
// A work-item transforms VECTOR neighbouring channels of a tile; neighbours have the next channels, so every load and store of a
// group is one run of memory. A tile's (m+2)² inputs are all in registers at a time; those it shares with the next tiles come
// from the cache. Float32 only: a shorter format has matrix units, and the transforms would add what it rounds away.
#include "gpu/activation.h"

#ifndef OUTPUTS
#define OUTPUTS 4  // m: outputs of a tile in each direction, 4 or 2
#endif
#ifndef VECTOR
#define VECTOR 1  // channels a work-item: 2 or 4 needs c (or oc), the strides of rows and every start to be multiples of it
#endif
#define INPUTS (OUTPUTS + 2)
#define POSITIONS (INPUTS * INPUTS)

#if VECTOR == 4
typedef float4 floatv;
#elif VECTOR == 2
typedef float2 floatv;
#else
typedef float floatv;
#endif
#define SPLAT(x) ((floatv)(x))
#define FMAV(a, b, c) MULTIPLY_ADD(a, b, c)
#include "common/winograd.h"

#if OUTPUTS == 4
#define WEIGHTS WEIGHTS_4
#define INPUT(d, i, to, step) COLUMNS6(INPUT_4, d, i, to, step)
#define OUTPUT(d, i, to, step) COLUMNS6(OUTPUT_4, d, i, to, step)
#else
#define WEIGHTS WEIGHTS_2
#define INPUT(d, i, to, step) COLUMNS4(INPUT_2, d, i, to, step)
#define OUTPUT(d, i, to, step) COLUMNS4(OUTPUT_2, d, i, to, step)
#endif

static inline floatv load(__global const float *from) { return *(__global const floatv *)from; }
static inline void store(floatv value, __global float *to) { *(__global floatv *)to = value; }
static inline __attribute__((always_inline)) floatv finish(floatv x, const Activation a) {
#if VECTOR == 4
  return (float4)(activate(x.x, a), activate(x.y, a), activate(x.z, a), activate(x.w, a));
#elif VECTOR == 2
  return (float2)(activate(x.x, a), activate(x.y, a));
#else
  return activate(x, a);
#endif
}
static inline uint rounded(int channels) { return ((uint)channels + 3) / 4 * 4; }

static inline float tap(__global const float *w, uint o, uint c, int i, const GraftWinogradParams p) {
  return o < (uint)p.oc && c < (uint)p.c ? w[((size_t)o * p.c + c) * 9 + i] : 0.0f;
}

// Weights [oc, c, 3, 3]. Work-items: vectors of oc', then channels.
__kernel void winograd_weights(__global const float *restrict w, __global float *restrict u, const GraftWinogradParams p) {
  uint columns = rounded(p.oc), parts = columns / VECTOR, index = get_global_id(0), c = index / parts, o = (index - c * parts) * VECTOR;
  if (c >= rounded(p.c)) return;
  size_t step = (size_t)rounded(p.c) * columns;
  floatv g[9], rows[INPUTS * 3], t[INPUTS];
#pragma unroll
  for (int i = 0; i < 9; ++i) {
#if VECTOR == 4
    g[i] = (float4)(tap(w, o, c, i, p), tap(w, o + 1, c, i, p), tap(w, o + 2, c, i, p), tap(w, o + 3, c, i, p));
#elif VECTOR == 2
    g[i] = (float2)(tap(w, o, c, i, p), tap(w, o + 1, c, i, p));
#else
    g[i] = tap(w, o, c, i, p);
#endif
  }
#pragma unroll
  for (int j = 0; j < 3; ++j) WEIGHTS(g[j], g[3 + j], g[6 + j], rows + j, 3)
  u += (size_t)c * columns + o;
#pragma unroll
  for (int i = 0; i < INPUTS; ++i) {
    WEIGHTS(rows[3 * i], rows[3 * i + 1], rows[3 * i + 2], t, 1)
#pragma unroll
    for (int j = 0; j < INPUTS; ++j) store(t[j], u + (INPUTS * i + j) * step);
  }
}

// Work-items: vectors of c', then tiles.
__kernel void winograd_input(__global const float *restrict x, __global float *restrict v, const GraftWinogradParams p) {
  uint channels = rounded(p.c), parts = channels / VECTOR, index = get_global_id(0), tile = index / parts;
  if (tile >= (uint)p.tileCount) return;
  uint c = (index - tile * parts) * VECTOR, at = p.firstTile + tile, perImage = (uint)p.tilesH * p.tilesW;
  uint n = at / perImage, rest = at - n * perImage, tileRow = rest / p.tilesW;
  int top = (int)tileRow * OUTPUTS - p.padH, left = (int)(rest - tileRow * p.tilesW) * OUTPUTS - p.padW;
  // Beyond the last channel lie the zeros of c'.
  bool real = c < (uint)p.c;
  x += (size_t)n * p.h * p.w * p.ldx + (real ? c : 0);
  v += (size_t)tile * channels + c;
  size_t step = (size_t)p.tileCount * channels;
  floatv rows[POSITIONS], t[INPUTS];
#pragma unroll
  for (int j = 0; j < INPUTS; ++j) {
    floatv d[INPUTS];
    int column = left + j;
#pragma unroll
    for (int i = 0; i < INPUTS; ++i) {
      int row = top + i;
      bool inside = real && (uint)row < (uint)p.h && (uint)column < (uint)p.w;
      d[i] = SPLAT(0.0f);
      if (inside) d[i] = load(x + (uint)(row * p.w + column) * (uint)p.ldx);
    }
    INPUT(d, 0, rows + j, INPUTS)
  }
#pragma unroll
  for (int i = 0; i < INPUTS; ++i) {
    INPUT(rows, i, t, 1)
#pragma unroll
    for (int j = 0; j < INPUTS; ++j) store(t[j], v + (INPUTS * i + j) * step);
  }
}

// Work-items: vectors of oc, then tiles.
__kernel void winograd_output(
    __global const float *restrict m, __global const float *restrict bias, __global const float *restrict residual, __global float *restrict y,
    const GraftWinogradParams p) {
  uint parts = (uint)p.oc / VECTOR, index = get_global_id(0), tile = index / parts;
  if (tile >= (uint)p.tileCount) return;
  const Activation activation = activation_of(p.epilogue);
  uint c = (index - tile * parts) * VECTOR, at = p.firstTile + tile, perImage = (uint)p.tilesH * p.tilesW;
  uint n = at / perImage, rest = at - n * perImage, tileRow = rest / p.tilesW;
  int top = (int)tileRow * OUTPUTS, left = (int)(rest - tileRow * p.tilesW) * OUTPUTS;
  uint channels = rounded(p.oc);
  m += (size_t)tile * channels + c;
  size_t step = (size_t)p.tileCount * channels;
  floatv rows[OUTPUTS * INPUTS], t[OUTPUTS];
#pragma unroll
  for (int j = 0; j < INPUTS; ++j) {
    floatv d[INPUTS];
#pragma unroll
    for (int i = 0; i < INPUTS; ++i) d[i] = load(m + (INPUTS * i + j) * step);
    OUTPUT(d, 0, rows + j, INPUTS)
  }
  floatv added = SPLAT(0.0f);
  if (p.epilogue.hasBias) added = load(bias + c);
  uint pixel = (n * p.oh + top) * p.ow + left;
#pragma unroll
  for (int i = 0; i < OUTPUTS; ++i) {
    OUTPUT(rows, i, t, 1)
    if (top + i < p.oh) {
#pragma unroll
      for (int j = 0; j < OUTPUTS; ++j) {
        if (left + j < p.ow) {
          uint place = pixel + i * p.ow + j;
          floatv value = t[j] + added;
          if (p.epilogue.hasResidual) value += load(residual + (place * (uint)p.ldr + c));
          store(finish(value, activation), y + (place * (uint)p.ldy + c));
        }
      }
    }
  }
}
