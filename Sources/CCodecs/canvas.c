#include "canvas.h"

#include <string.h>

void graft_palette_reset(graft_samples *samples) {
  for (uint32_t i = 0; i < 256; i++) memcpy(samples->palette[i], (uint8_t[4]){0, 0, 0, 255}, 4);
}

/// Sample `index` of a row, at full depth.
static inline uint32_t sample_at(const uint8_t *row, uint32_t bits, size_t index) {
  if (bits == 8) return row[index];
  if (bits == 16) {
    uint16_t value;
    memcpy(&value, row + 2 * index, 2);
    return value;
  }
  const size_t bit = index * bits;
  return (row[bit >> 3] >> (8 - bits - (bit & 7))) & ((1u << bits) - 1);
}

static inline uint8_t unpremultiply(uint8_t value, uint8_t alpha) {
  const uint32_t straight = 255u * value / alpha;
  return straight > 255 ? 255 : (uint8_t)straight;
}

/// The layout as arguments of their own, so that a call with constants is compiled for just that layout.
static inline __attribute__((always_inline)) void expand(
    const graft_samples *samples, graft_colour colour, graft_alpha alpha_kind, uint32_t channels, uint32_t bits, const uint8_t *row,
    uint32_t count, uint8_t *rgba) {
  const uint32_t colours = colour == GRAFT_RGB || colour == GRAFT_YCBCR ? 3 : colour == GRAFT_CMYK ? 4 : 1;
  // 1, 2 and 4 bits are spread over 0…255
  const uint32_t spread = bits < 8 ? 255 / ((1u << bits) - 1) : 1;
  const uint32_t shift = bits == 16 ? 8 : 0;
  for (uint32_t i = 0; i < count; i++, rgba += 4) {
    const size_t first = (size_t)i * channels;
    uint32_t raw[4] = {0};
    for (uint32_t c = 0; c < colours; c++) raw[c] = sample_at(row, bits, first + c);
    rgba[3] = 255;
    switch (colour) {
      case GRAFT_GREY: {
        const uint8_t grey = (uint8_t)((raw[0] * spread) >> shift);
        rgba[0] = rgba[1] = rgba[2] = samples->inverted ? 255 - grey : grey;
        if (samples->has_key && raw[0] == samples->key[0]) rgba[3] = 0;
        break;
      }
      case GRAFT_RGB:
        for (uint32_t c = 0; c < 3; c++) rgba[c] = (uint8_t)((raw[c] * spread) >> shift);
        if (samples->has_key && raw[0] == samples->key[0] && raw[1] == samples->key[1] && raw[2] == samples->key[2]) rgba[3] = 0;
        break;
      case GRAFT_PALETTE:
        memcpy(rgba, samples->palette[raw[0] & 255], 4);
        break;
      case GRAFT_CMYK:
        for (uint32_t c = 0; c < 4; c++) raw[c] = (raw[c] * spread) >> shift;
        graft_cmyk_to_rgb((uint8_t)raw[0], (uint8_t)raw[1], (uint8_t)raw[2], (uint8_t)raw[3], rgba);
        break;
      case GRAFT_YCBCR: graft_ycbcr_to_rgb((uint8_t)raw[0], (uint8_t)raw[1], (uint8_t)raw[2], rgba); break;
    }
    if (alpha_kind == GRAFT_OPAQUE) continue;
    const uint8_t alpha = (uint8_t)((sample_at(row, bits, first + colours) * spread) >> shift);
    rgba[3] = alpha;
    if (alpha_kind == GRAFT_PREMULTIPLIED && alpha != 255) {
      for (uint32_t c = 0; c < 3; c++) rgba[c] = alpha ? unpremultiply(rgba[c], alpha) : 0;
    }
  }
}

void graft_expand_row(const graft_samples *samples, const uint8_t *row, uint32_t count, uint8_t *rgba) {
  const graft_colour colour = samples->colour;
  const graft_alpha alpha = samples->alpha;
  const uint32_t channels = samples->channels, bits = samples->bits;
  // the layouts that files have, then all others
  if (bits == 8 && alpha == GRAFT_OPAQUE) {
    if (colour == GRAFT_RGB && channels == 3) return expand(samples, GRAFT_RGB, GRAFT_OPAQUE, 3, 8, row, count, rgba);
    if (colour == GRAFT_GREY && channels == 1) return expand(samples, GRAFT_GREY, GRAFT_OPAQUE, 1, 8, row, count, rgba);
    if (colour == GRAFT_PALETTE && channels == 1) return expand(samples, GRAFT_PALETTE, GRAFT_OPAQUE, 1, 8, row, count, rgba);
  }
  if (bits == 8 && alpha == GRAFT_STRAIGHT && colour == GRAFT_RGB && channels == 4) {
    return expand(samples, GRAFT_RGB, GRAFT_STRAIGHT, 4, 8, row, count, rgba);
  }
  expand(samples, colour, alpha, channels, bits, row, count, rgba);
}

uint8_t *graft_canvas_row(const graft_canvas *canvas, uint32_t y) {
  return canvas->orientation == 1 ? canvas->pixels + (size_t)y * canvas->width * 3 : NULL;
}

/// Where the stored pixel (0, y) lies on the turned canvas, and how far it is from there to (1, y), both in pixels.
///
///   1  as it is          2  mirrored left-right    3  turned by 180°         4  mirrored top-bottom
///   5  transposed        6  turned 90° clockwise   7  transposed across      8  turned 90° anticlockwise
static void place_row(const graft_canvas *canvas, uint32_t y, size_t *origin, ptrdiff_t *step) {
  const size_t width = canvas->width, height = canvas->height;
  switch (canvas->orientation) {
    default: *origin = y * width; *step = 1; break;
    case 2: *origin = y * width + width - 1; *step = -1; break;
    case 3: *origin = (height - 1 - y) * width + width - 1; *step = -1; break;
    case 4: *origin = (height - 1 - y) * width; *step = 1; break;
    case 5: *origin = y; *step = (ptrdiff_t)height; break;
    case 6: *origin = height - 1 - y; *step = (ptrdiff_t)height; break;
    case 7: *origin = (width - 1) * height + height - 1 - y; *step = -(ptrdiff_t)height; break;
    case 8: *origin = (width - 1) * height + y; *step = -(ptrdiff_t)height; break;
  }
}

void graft_canvas_put_rgb(const graft_canvas *canvas, uint32_t x, uint32_t step, uint32_t y, uint32_t count, const uint8_t *rgb) {
  size_t origin;
  ptrdiff_t stride;
  place_row(canvas, y, &origin, &stride);
  uint8_t *target = canvas->pixels + 3 * ((ptrdiff_t)origin + (ptrdiff_t)x * stride);
  stride *= 3 * (ptrdiff_t)step;
  if (stride == 3) {
    memcpy(target, rgb, (size_t)count * 3);
    return;
  }
  for (uint32_t i = 0; i < count; i++) memcpy(target + (ptrdiff_t)i * stride, rgb + (size_t)i * 3, 3);
}

void graft_canvas_put_rgba(const graft_canvas *canvas, uint32_t x, uint32_t step, uint32_t y, uint32_t count, const uint8_t *rgba) {
  size_t origin;
  ptrdiff_t stride;
  place_row(canvas, y, &origin, &stride);
  uint8_t *target = canvas->pixels + 3 * ((ptrdiff_t)origin + (ptrdiff_t)x * stride);
  stride *= 3 * (ptrdiff_t)step;
  if (!canvas->composites) {
    for (uint32_t i = 0; i < count; i++) memcpy(target + (ptrdiff_t)i * stride, rgba + 4 * (size_t)i, 3);
    return;
  }
  for (uint32_t i = 0; i < count; i++, rgba += 4) {
    uint8_t *pixel = target + (ptrdiff_t)i * stride;
    const uint32_t alpha = rgba[3];
    for (uint32_t c = 0; c < 3; c++) {
      // round(colour · α + background · (255 − α)) / 255, exactly: Pillow's alpha_composite over an opaque image
      pixel[c] = (uint8_t)((2 * (rgba[c] * alpha + canvas->background[c] * (255 - alpha)) + 255) / 510);
    }
  }
}
