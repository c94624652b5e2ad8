#pragma once
// Rows as files store them, turned into RGB on a canvas.

#include "CCodecs.h"

typedef enum graft_colour { GRAFT_GREY, GRAFT_RGB, GRAFT_PALETTE, GRAFT_CMYK, GRAFT_YCBCR } graft_colour;
typedef enum graft_alpha { GRAFT_OPAQUE, GRAFT_STRAIGHT, GRAFT_PREMULTIPLIED } graft_alpha;

/// How a row's samples are to be read: pixels side by side, each of `channels` samples.
typedef struct graft_samples {
  graft_colour colour;
  /// The sample after the colour's, if not opaque.
  graft_alpha alpha;
  /// Samples a pixel, those that are skipped included.
  uint32_t channels;
  /// Bits a sample: 1, 2, 4 (high bits first), 8, or 16 in the machine's byte order, of which the high byte is taken.
  uint32_t bits;
  /// Grey where 0 is white.
  int inverted;
  /// PNG's transparent colour, compared at full depth.
  int has_key;
  uint16_t key[3];
  /// RGBA.
  uint8_t palette[256][4];
} graft_samples;

/// Fills the palette with opaque black, which Pillow gives to entries a file leaves out.
void graft_palette_reset(graft_samples *samples);

/// Whether rows are RGB bytes as they stand, for a canvas that drops alpha or not.
static inline int graft_is_rgb8(const graft_samples *samples, const graft_canvas *canvas) {
  return samples->colour == GRAFT_RGB && samples->bits == 8 && samples->channels == 3 && samples->alpha == GRAFT_OPAQUE
      && !(samples->has_key && canvas->composites);
}

/// `count` pixels of `row` as RGBA.
void graft_expand_row(const graft_samples *samples, const uint8_t *row, uint32_t count, uint8_t *rgba);

/// The memory of row `y` if its RGB bytes can be written there directly, else NULL.
uint8_t *graft_canvas_row(const graft_canvas *canvas, uint32_t y);

/// Puts `count` pixels at x, x + step, … of row `y`.
void graft_canvas_put_rgb(const graft_canvas *canvas, uint32_t x, uint32_t step, uint32_t y, uint32_t count, const uint8_t *rgb);
/// The same for RGBA: composited or the alpha dropped, as the canvas says.
void graft_canvas_put_rgba(const graft_canvas *canvas, uint32_t x, uint32_t step, uint32_t y, uint32_t count, const uint8_t *rgba);

/// CMYK to RGB as Pillow does it, 0 being no ink.
static inline void graft_cmyk_to_rgb(uint8_t c, uint8_t m, uint8_t y, uint8_t k, uint8_t *rgb) {
  const uint32_t light = 255u - k;
  // light - round(ink * light / 255) is never negative
  rgb[0] = (uint8_t)(light - (2 * c * light + 255) / 510);
  rgb[1] = (uint8_t)(light - (2 * m * light + 255) / 510);
  rgb[2] = (uint8_t)(light - (2 * y * light + 255) / 510);
}

/// YCbCr of 8 bits to RGB as Pillow does it: JFIF's factors in 64ths, rounded as its tables are.
static inline void graft_ycbcr_to_rgb(uint8_t y, uint8_t cb, uint8_t cr, uint8_t *rgb) {
  const int32_t blue = cb - 128, red = cr - 128;
  // factor · difference · 64, halves rounded up and what is left of a negative one cut off
#define GRAFT_PART(factor, difference) ((64 * (factor) * (difference) + 50000) / 100000)
  const int32_t sums[3] = {
      y + (GRAFT_PART(140200, red) >> 6), y + ((GRAFT_PART(-34414, blue) + GRAFT_PART(-71414, red)) >> 6), y + (GRAFT_PART(177200, blue) >> 6)};
#undef GRAFT_PART
  for (int i = 0; i < 3; i++) rgb[i] = sums[i] < 0 ? 0 : sums[i] > 255 ? 255 : (uint8_t)sums[i];
}
