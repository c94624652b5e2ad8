// PNG through libspng: every colour type and depth, interlaced or not.
//
// libspng is shown IHDR, IDAT and a stand-in for the palette, nothing else. It is strict about chunks that do not matter to
// the pixels, where other readers only warn, and would inflate and keep texts and profiles; PLTE and tRNS, of which it
// would refuse harmless oddities, are read here.

#include <spng.h>
#include <stdlib.h>
#include <string.h>

#include "canvas.h"
#include "reader.h"

enum { signature_bytes = 8, chunk_overhead = 12, colour_type_offset = 25, header_end = signature_bytes + chunk_overhead + 13 };

/// One entry, black: libspng wants a palette where the colour type has one, and does not look at it for the format asked.
static const uint8_t stand_in_palette[15] = {0, 0, 0, 3, 'P', 'L', 'T', 'E', 0, 0, 0, 0xA7, 0x7A, 0x3D, 0xDA};
static const uint8_t end_chunk[12] = {0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xAE, 0x42, 0x60, 0x82};

typedef struct png_reader {
  graft_image_reader base;
  spng_ctx *context;
  struct spng_ihdr header;
  const uint8_t *bytes;
  size_t byte_count;
  /// What libspng is reading now, and how much of it is left.
  const uint8_t *segment;
  size_t segment_bytes;
  /// Where in `bytes` the next chunk begins.
  size_t position;
  enum { png_at_header, png_at_palette, png_at_data, png_at_end } stage;
} png_reader;

static uint32_t big_endian32(const uint8_t *bytes) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/// The chunk at `position`, as much of it as there is; 0 at the end of the file. Moves on to the next.
static size_t next_chunk(const png_reader *reader, size_t *position, const uint8_t **chunk) {
  const size_t left = reader->byte_count - *position;
  if (left < 8) return 0;
  *chunk = reader->bytes + *position;
  const uint64_t size = (uint64_t)big_endian32(*chunk) + chunk_overhead;
  const size_t present = size < left ? (size_t)size : left;
  *position += present;
  return present;
}

static int is_type(const uint8_t *chunk, const char *type) { return memcmp(chunk + 4, type, 4) == 0; }

/// Finds what libspng shall read next; 0 if the file has no more.
static int next_segment(png_reader *reader) {
  switch (reader->stage) {
    case png_at_header:
      reader->stage = reader->bytes[colour_type_offset] == SPNG_COLOR_TYPE_INDEXED ? png_at_palette : png_at_data;
      reader->segment = reader->bytes;
      reader->segment_bytes = header_end;
      return 1;
    case png_at_palette:
      reader->stage = png_at_data;
      reader->segment = stand_in_palette;
      reader->segment_bytes = sizeof stand_in_palette;
      return 1;
    case png_at_data: {
      const uint8_t *chunk;
      size_t size;
      while ((size = next_chunk(reader, &reader->position, &chunk))) {
        if (is_type(chunk, "IDAT")) {
          reader->segment = chunk;
          reader->segment_bytes = size;
          return 1;
        }
        if (is_type(chunk, "IEND")) {
          reader->stage = png_at_end;
          reader->segment = end_chunk;
          reader->segment_bytes = sizeof end_chunk;
          return 1;
        }
      }
      // no end chunk: the file is cut off, and libspng shall see just that
      return 0;
    }
    case png_at_end: return 0;
  }
  return 0;
}

static int read_stream(spng_ctx *context, void *user, void *target, size_t count) {
  (void)context;
  png_reader *reader = user;
  uint8_t *out = target;
  while (count) {
    if (!reader->segment_bytes && !next_segment(reader)) return SPNG_IO_EOF;
    const size_t part = count < reader->segment_bytes ? count : reader->segment_bytes;
    memcpy(out, reader->segment, part);
    reader->segment += part;
    reader->segment_bytes -= part;
    out += part;
    count -= part;
  }
  return SPNG_OK;
}

static graft_image_status fail(graft_image_message *message, int error) {
  switch (error) {
    case SPNG_IO_EOF:
    case SPNG_EIDAT_TOO_SHORT: return GRAFT_IMAGE_TRUNCATED;
    case SPNG_EMEM: return GRAFT_IMAGE_OUT_OF_MEMORY;
    default: return graft_fail(message, GRAFT_IMAGE_DAMAGED, "%s", spng_strerror(error));
  }
}

/// CRC-32 of a chunk's type and data (ISO 3309, as PNG's appendix D), bit by bit: the chunks it is for are small.
static uint32_t checksum(const uint8_t *bytes, size_t count) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < count; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
  }
  return ~crc;
}

/// Reads PLTE and tRNS.
static graft_image_status read_transparency_and_palette(const png_reader *reader, graft_samples *samples, graft_image_message *message) {
  graft_palette_reset(samples);
  int has_palette = 0;
  size_t position = header_end, size;
  const uint8_t *chunk;
  while ((size = next_chunk(reader, &position, &chunk)) && !is_type(chunk, "IDAT") && !is_type(chunk, "IEND")) {
    const int is_palette = is_type(chunk, "PLTE");
    if (!is_palette && !is_type(chunk, "tRNS")) continue;
    const size_t length = big_endian32(chunk);
    if (size < length + chunk_overhead) return GRAFT_IMAGE_TRUNCATED;
    const uint8_t *data = chunk + 8;
    if (length > 768) return graft_fail(message, GRAFT_IMAGE_DAMAGED, "a %s chunk of %zu bytes", is_palette ? "palette" : "transparency", length);
    if (checksum(chunk + 4, length + 4) != big_endian32(data + length)) {
      return graft_fail(message, GRAFT_IMAGE_DAMAGED, "a wrong checksum of the %s", is_palette ? "palette" : "transparency");
    }
    if (is_palette) {
      has_palette = 1;
      for (size_t i = 0; i < length / 3; i++) memcpy(samples->palette[i], data + 3 * i, 3);
    } else if (samples->colour == GRAFT_PALETTE) {
      for (size_t i = 0; i < length && i < 256; i++) samples->palette[i][3] = data[i];
    } else if (samples->alpha == GRAFT_OPAQUE) {
      const size_t colours = samples->colour == GRAFT_RGB ? 3 : 1;
      samples->has_key = length >= 2 * colours;
      for (size_t c = 0; samples->has_key && c < colours; c++) samples->key[c] = (uint16_t)(data[2 * c] << 8 | data[2 * c + 1]);
    }
  }
  if (samples->colour == GRAFT_PALETTE && !has_palette) return graft_fail(message, GRAFT_IMAGE_DAMAGED, "no palette");
  return GRAFT_IMAGE_OK;
}

static graft_image_status decode_rows(
    png_reader *reader, const graft_canvas *canvas, const graft_samples *samples, uint8_t *row, size_t row_bytes, uint8_t *rgba,
    graft_image_message *message) {
  static const uint32_t pass_x[7] = {0, 4, 0, 2, 0, 1, 0}, pass_step[7] = {8, 8, 4, 4, 2, 2, 1};
  const int is_rgb8 = graft_is_rgb8(samples, canvas);
  int error = SPNG_OK;
  while (error != SPNG_EOI) {
    struct spng_row_info info;
    if ((error = spng_get_row_info(reader->context, &info))) return fail(message, error);
    uint32_t x = 0, step = 1;
    if (reader->header.interlace_method) x = pass_x[info.pass], step = pass_step[info.pass];
    const uint32_t count = (canvas->width - x + step - 1) / step;
    uint8_t *direct = is_rgb8 && step == 1 ? graft_canvas_row(canvas, info.row_num) : NULL;
    error = spng_decode_scanline(reader->context, direct ? direct : row, row_bytes);
    if (error && error != SPNG_EOI) return fail(message, error);
    if (direct) continue;
    if (is_rgb8) {
      graft_canvas_put_rgb(canvas, x, step, info.row_num, count, row);
    } else {
      graft_expand_row(samples, row, count, rgba);
      graft_canvas_put_rgba(canvas, x, step, info.row_num, count, rgba);
    }
  }
  return GRAFT_IMAGE_OK;
}

static graft_image_status decode(graft_image_reader *base, const graft_canvas *canvas, graft_image_message *message) {
  png_reader *reader = (png_reader *)base;
  const uint8_t type = reader->header.color_type;
  const int has_alpha = type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA || type == SPNG_COLOR_TYPE_TRUECOLOR_ALPHA;
  const int is_rgb = type == SPNG_COLOR_TYPE_TRUECOLOR || type == SPNG_COLOR_TYPE_TRUECOLOR_ALPHA;
  graft_samples samples = {
      .colour = type == SPNG_COLOR_TYPE_INDEXED ? GRAFT_PALETTE : is_rgb ? GRAFT_RGB : GRAFT_GREY,
      .alpha = has_alpha ? GRAFT_STRAIGHT : GRAFT_OPAQUE,
      .channels = (is_rgb ? 3 : 1) + (has_alpha ? 1 : 0),
      .bits = reader->header.bit_depth,
  };
  graft_image_status status = read_transparency_and_palette(reader, &samples, message);
  if (status != GRAFT_IMAGE_OK) return status;

  const uint64_t row_bytes = ((uint64_t)canvas->width * samples.channels * samples.bits + 7) / 8;
  // deflate makes at most 1032 bytes of one
  if (row_bytes * canvas->height / 1032 > reader->byte_count) return GRAFT_IMAGE_TRUNCATED;
  // libspng holds two scanlines, we hold one and its RGBA
  const uint64_t pixels = (uint64_t)canvas->width * canvas->height;
  status = graft_check_memory(3 * pixels + 3 * row_bytes + 4 * (uint64_t)canvas->width, reader->byte_count, message);
  if (status != GRAFT_IMAGE_OK) return status;

  const int error = spng_decode_image(reader->context, NULL, 0, SPNG_FMT_PNG, SPNG_DECODE_PROGRESSIVE);
  if (error) return fail(message, error);
  uint8_t *row = malloc(row_bytes), *rgba = malloc(4 * (size_t)canvas->width);
  status = row && rgba ? decode_rows(reader, canvas, &samples, row, row_bytes, rgba, message) : GRAFT_IMAGE_OUT_OF_MEMORY;
  free(row);
  free(rgba);
  return status;
}

static void close_reader(graft_image_reader *base) {
  png_reader *reader = (png_reader *)base;
  spng_ctx_free(reader->context);
  free(reader);
}

graft_image_status graft_png_open(
    const uint8_t *bytes, size_t byte_count, graft_image_reader **result, graft_image_header *header, graft_image_message *message) {
  if (byte_count < header_end) return GRAFT_IMAGE_TRUNCATED;
  if (!is_type(bytes + signature_bytes, "IHDR")) return graft_fail(message, GRAFT_IMAGE_DAMAGED, "it does not begin with its header");
  png_reader *reader = calloc(1, sizeof *reader);
  if (!reader) return GRAFT_IMAGE_OUT_OF_MEMORY;
  *reader = (png_reader){
      .base = {.decode = decode, .close = close_reader},
      .context = spng_ctx_new(0),
      .bytes = bytes,
      .byte_count = byte_count,
      .position = header_end,
  };
  int error = reader->context ? spng_set_png_stream(reader->context, read_stream, reader) : SPNG_EMEM;
  if (!error) error = spng_get_ihdr(reader->context, &reader->header);
  if (error) {
    close_reader(&reader->base);
    return fail(message, error);
  }
  header->width = reader->header.width;
  header->height = reader->header.height;
  *result = &reader->base;
  return GRAFT_IMAGE_OK;
}
