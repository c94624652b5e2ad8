// 3×3 convolutions at stride 1 with fewer products: Winograd's F(4×4, 3×3) and F(2×2, 3×3) (Lavin and Gray, "Fast Algorithms
// for Convolutional Neural Networks", 2015).
//
// A tile of m×m outputs comes from (m+2)² inputs:  Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A.  Summed over channels, the products in
// the brackets are (m+2)² matrix products, one for each position in the transformed tile: 36 for 16 outputs instead of 144.
//
//     winograd_weights   U[p] = (G g Gᵀ)[p], packed for gemm (tile.h), once; or in every run by winograd_panels
//     winograd_input     V[p] = (Bᵀ d B)[p]: [tiles, c]
//     gemm               M[p] = V[p] U[p]:   [tiles, oc], a batch of (m+2)²
//     winograd_output    Y = Aᵀ M A, bias, residual, activation
//
// U, V and M are float32 whatever the format of x and y: the transforms add what a shorter one would round away.
#include "common/winograd.h"
#include "cpu/tile.h"

// Nine weights a lane to (m+2)² values, `step` apart.
#define WINOGRAD_TRANSFORM(M, S)                                                                                                     \
  INLINE void winograd_transform_##M(const floatv *g, GLOBAL float *to, size_t step) {                                               \
    floatv rows[S * 3], u[S];                                                                                                        \
    _Pragma("unroll") for (int j = 0; j < 3; ++j) WEIGHTS_##M(g[j], g[3 + j], g[6 + j], rows + j, 3)                                 \
    _Pragma("unroll") for (int i = 0; i < S; ++i) {                                                                                  \
      WEIGHTS_##M(rows[3 * i], rows[3 * i + 1], rows[3 * i + 2], u, 1)                                                               \
      _Pragma("unroll") for (int j = 0; j < S; ++j) STOREV(u[j], to + (size_t)(S * i + j) * step);                                   \
    }                                                                                                                                \
  }
WINOGRAD_TRANSFORM(4, 6)
WINOGRAD_TRANSFORM(2, 4)

// Weights [oc, c, 3, 3] transformed and packed as (m+2)² matrices. Work-items: x panels, y blocks of 16 input channels.
#define WINOGRAD_WEIGHTS(M)                                                                                                          \
  KERNEL2(winograd_weights_##M, GLOBAL const float *w, GLOBAL float *packed, GraftWinogradParams) {                                  \
    int rounded = (p.oc + VW - 1) / VW * VW, first = ITEM_X * PANEL, width = min(PANEL, rounded - first);                            \
    int endChannel = min(p.c, ITEM_Y * 16 + 16);                                                                                     \
    for (int c = ITEM_Y * 16; c < endChannel; ++c)                                                                                   \
      for (int o = 0; o < width; o += VW) {                                                                                          \
        float taps[9 * VW];                                                                                                          \
        for (int lane = 0; lane < VW; ++lane) {                                                                                      \
          bool real = first + o + lane < p.oc;                                                                                       \
          GLOBAL const float *from = w + ((size_t)(real ? first + o + lane : 0) * p.c + c) * 9;                                      \
          for (int tap = 0; tap < 9; ++tap) taps[tap * VW + lane] = real ? from[tap] : 0.0f;                                         \
        }                                                                                                                            \
        floatv g[9];                                                                                                                 \
        for (int tap = 0; tap < 9; ++tap) g[tap] = LOADV_PRIVATE(taps + tap * VW);                                                   \
        GLOBAL float *to = packed + (size_t)p.c * first + (size_t)c * width + o;                                                     \
        GRAFT_JOIN(winograd_transform_, M)(g, to, (size_t)p.weightStep);                                                             \
      }                                                                                                                              \
  }

// The same from weights packed for the direct way (pack.cl), for outputs firstOutput … of a run. Work-items as above, x from
// the first of these outputs.
#define WINOGRAD_PANELS(M)                                                                                                           \
  KERNEL2(winograd_panels_##M, GLOBAL const float *taps, GLOBAL float *packed, GraftWinogradParams) {                                \
    int rounded = (p.outputCount + VW - 1) / VW * VW, first = ITEM_X * PANEL, width = min(PANEL, rounded - first);                   \
    int endChannel = min(p.c, ITEM_Y * 16 + 16);                                                                                     \
    GLOBAL const float *from = taps + (size_t)9 * p.c * (p.firstOutput + first);                                                     \
    for (int c = ITEM_Y * 16; c < endChannel; ++c)                                                                                   \
      for (int o = 0; o < width; o += VW) {                                                                                          \
        floatv g[9];                                                                                                                 \
        _Pragma("unroll") for (int tap = 0; tap < 9; ++tap) g[tap] = LOADV(from + ((size_t)tap * p.c + c) * width + o);              \
        GLOBAL float *to = packed + (size_t)p.c * first + (size_t)c * width + o;                                                     \
        GRAFT_JOIN(winograd_transform_, M)(g, to, (size_t)p.weightStep);                                                             \
      }                                                                                                                              \
  }

// Work-items: x blocks of WINOGRAD_TILES tiles.
#define WINOGRAD_TILES 4

// Channels c … of a tile. Whole vectors in the loops of the kernels; the last part of one in functions of their own, which
// otherwise would take the loops' registers.
#define WINOGRAD_INPUT_VECTOR(M, S, LOAD, STORE)                                                                                     \
  {                                                                                                                                  \
    floatv rows[S * S], t[S];                                                                                                        \
    _Pragma("unroll") for (int j = 0; j < S; ++j) {                                                                                  \
      floatv d[S];                                                                                                                   \
      _Pragma("unroll") for (int i = 0; i < S; ++i) d[i] = LOAD(pixels[S * i + j] + c);                                              \
      COLUMNS##S(INPUT_##M, d, 0, rows + j, S)                                                                                       \
    }                                                                                                                                \
    _Pragma("unroll") for (int i = 0; i < S; ++i) {                                                                                  \
      COLUMNS##S(INPUT_##M, rows, i, t, 1)                                                                                           \
      _Pragma("unroll") for (int j = 0; j < S; ++j) STORE(t[j], to + (S * i + j) * step + c);                                        \
    }                                                                                                                                \
  }
#define WINOGRAD_TAKE_PART(from) load_part(from, channels)
#define WINOGRAD_PUT_PART(value, to) store_float_part(value, to, channels)

#define WINOGRAD_INPUT(M, S)                                                                                                         \
  OUTLINE void winograd_input_part_##M(GLOBAL const element *const *pixels, GLOBAL float *to, size_t step, int c, int channels) {    \
    WINOGRAD_INPUT_VECTOR(M, S, WINOGRAD_TAKE_PART, WINOGRAD_PUT_PART)                                                               \
  }                                                                                                                                  \
  KERNEL3(winograd_input_##M, GLOBAL const element *x, GLOBAL const element *zeros, GLOBAL float *v, GraftWinogradParams) {          \
    int end = min(p.tileCount, (ITEM_X + 1) * WINOGRAD_TILES);                                                                       \
    for (int tile = ITEM_X * WINOGRAD_TILES; tile < end; ++tile) {                                                                   \
      int at = p.firstTile + tile, n = at / (p.tilesH * p.tilesW), rest = at - n * (p.tilesH * p.tilesW);                            \
      int top = rest / p.tilesW * M - p.padH, left = rest % p.tilesW * M - p.padW;                                                   \
      GLOBAL const element *image = x + (size_t)n * p.h * p.w * p.ldx;                                                               \
      GLOBAL const element *pixels[S * S];                                                                                           \
      for (int i = 0; i < S; ++i)                                                                                                    \
        for (int j = 0; j < S; ++j) {                                                                                                \
          int h = top + i, l = left + j;                                                                                             \
          pixels[S * i + j] = (uint)h < (uint)p.h && (uint)l < (uint)p.w ? image + ((size_t)h * p.w + l) * p.ldx : zeros;            \
        }                                                                                                                            \
      GLOBAL float *to = v + (size_t)tile * p.c;                                                                                     \
      size_t step = (size_t)p.tileCount * p.c;                                                                                       \
      int c = 0;                                                                                                                     \
      for (; c + VW <= p.c; c += VW) WINOGRAD_INPUT_VECTOR(M, S, LOADE, STOREV)                                                      \
      if (c < p.c) winograd_input_part_##M(pixels, to, step, c, p.c - c);                                                            \
    }                                                                                                                                \
  }

// `row` and STORE_LINE are the first pixel of a line of the tile, and what puts its pixels away.
#define WINOGRAD_OUTPUT_VECTOR(M, S, LOAD, STORE_LINE)                                                                               \
  {                                                                                                                                  \
    floatv rows[S * M], t[M];                                                                                                        \
    _Pragma("unroll") for (int j = 0; j < S; ++j) {                                                                                  \
      floatv d[S];                                                                                                                   \
      _Pragma("unroll") for (int i = 0; i < S; ++i) d[i] = LOAD(from + (S * i + j) * step + c);                                      \
      COLUMNS##S(OUTPUT_##M, d, 0, rows + j, S)                                                                                      \
    }                                                                                                                                \
    _Pragma("unroll") for (int i = 0; i < M; ++i) {                                                                                  \
      COLUMNS##S(OUTPUT_##M, rows, i, t, 1)                                                                                          \
      if (i < height) {                                                                                                              \
        size_t row = pixel + (size_t)i * p.ow;                                                                                       \
        GLOBAL const element *added = residual + row * p.ldr + channel;                                                              \
        GLOBAL element *to = y + row * p.ldy + channel;                                                                              \
        STORE_LINE(M)                                                                                                                \
      }                                                                                                                              \
    }                                                                                                                                \
  }
#define WINOGRAD_FLOAT_PART(from) float_part(from, channels)
#define WINOGRAD_STORE_WHOLE(M)                                                                                                      \
  _Pragma("unroll") for (int j = 0; j < M; ++j)                                                                                      \
    if (j < width) tile_store_whole(t[j], bias + channel, added + (size_t)j * p.ldr, to + (size_t)j * p.ldy, p.epilogue);
#define WINOGRAD_STORE_REST(M)                                                                                                       \
  float kept[M * VW];                                                                                                                \
  _Pragma("unroll") for (int j = 0; j < M; ++j) STOREV_PRIVATE(t[j], kept + j * VW);                                                 \
  tile_finish(kept, VW, bias + channel, added, to, width, p.ldr, p.ldy, channels, p.epilogue);

#define WINOGRAD_OUTPUT(M, S)                                                                                                        \
  OUTLINE void winograd_output_rest_##M(                                                                                             \
      GLOBAL const float *from, GLOBAL const float *bias, GLOBAL const element *residual, GLOBAL element *y, size_t step, size_t pixel,\
      int height, int width, int c, const GraftWinogradParams p) {                                                                   \
    for (; c < p.outputCount; c += VW) {                                                                                             \
      int channels = min(VW, p.outputCount - c), channel = p.firstOutput + c;                                                        \
      WINOGRAD_OUTPUT_VECTOR(M, S, WINOGRAD_FLOAT_PART, WINOGRAD_STORE_REST)                                                         \
    }                                                                                                                                \
  }                                                                                                                                  \
  KERNEL4(winograd_output_##M, GLOBAL const float *m, GLOBAL const float *bias, GLOBAL const element *residual, GLOBAL element *y, GraftWinogradParams) {\
    int end = min(p.tileCount, (ITEM_X + 1) * WINOGRAD_TILES);                                                                       \
    size_t step = (size_t)p.tileCount * p.outputCount;                                                                               \
    for (int tile = ITEM_X * WINOGRAD_TILES; tile < end; ++tile) {                                                                   \
      int at = p.firstTile + tile, n = at / (p.tilesH * p.tilesW), rest = at - n * (p.tilesH * p.tilesW);                            \
      int top = rest / p.tilesW * M, left = rest % p.tilesW * M;                                                                     \
      int height = min(M, p.oh - top), width = min(M, p.ow - left);                                                                  \
      size_t pixel = ((size_t)n * p.oh + top) * p.ow + left;                                                                         \
      GLOBAL const float *from = m + (size_t)tile * p.outputCount;                                                                   \
      int c = 0;                                                                                                                     \
      if (is_simple(p.epilogue.activation))                                                                                          \
        for (; c + VW <= p.outputCount; c += VW) {                                                                                   \
          int channel = p.firstOutput + c;                                                                                           \
          WINOGRAD_OUTPUT_VECTOR(M, S, LOADV, WINOGRAD_STORE_WHOLE)                                                                  \
        }                                                                                                                            \
      if (c < p.outputCount) winograd_output_rest_##M(from, bias, residual, y, step, pixel, height, width, c, p);                    \
    }                                                                                                                                \
  }

WINOGRAD_WEIGHTS(4)
WINOGRAD_WEIGHTS(2)
WINOGRAD_PANELS(4)
WINOGRAD_PANELS(2)
WINOGRAD_INPUT(4, 6)
WINOGRAD_INPUT(2, 4)
WINOGRAD_OUTPUT(4, 6)
WINOGRAD_OUTPUT(2, 4)
