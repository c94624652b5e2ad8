// WebP through libwebp: lossy, lossless, with alpha, and the first frame of an animation on its canvas.

#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include "canvas.h"
#include "reader.h"

typedef struct webp_reader {
  graft_image_reader base;
  WebPDemuxer *demuxer;
  size_t byte_count;
} webp_reader;

static graft_image_status fail(graft_image_message *message, VP8StatusCode code) {
  switch (code) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED: return GRAFT_IMAGE_TRUNCATED;
    case VP8_STATUS_OUT_OF_MEMORY: return GRAFT_IMAGE_OUT_OF_MEMORY;
    case VP8_STATUS_UNSUPPORTED_FEATURE: return graft_fail(message, GRAFT_IMAGE_UNSUPPORTED, "a feature that libwebp does not know");
    default: return graft_fail(message, GRAFT_IMAGE_DAMAGED, "its bitstream is not WebP's");
  }
}

/// Decodes the frame to where it belongs, in `direct` (RGB of the whole canvas) or by way of a buffer of its own.
static graft_image_status decode_frame(
    const WebPIterator *frame, const graft_canvas *canvas, uint8_t *direct, size_t byte_count, graft_image_message *message) {
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) return graft_fail(message, GRAFT_IMAGE_UNSUPPORTED, "libwebp is of another version");
  const VP8StatusCode known = WebPGetFeatures(frame->fragment.bytes, frame->fragment.size, &config.input);
  if (known != VP8_STATUS_OK) return fail(message, known);
  const uint32_t width = (uint32_t)config.input.width, height = (uint32_t)config.input.height;
  if (config.input.width != frame->width || config.input.height != frame->height) {
    return graft_fail(message, GRAFT_IMAGE_DAMAGED, "a frame of another size than its header says");
  }
  const int is_lossless = config.input.format == 2;
  const uint64_t pixels = (uint64_t)width * height;
  // lossless data are decoded to 4 bytes a pixel first, an alpha plane to one
  uint64_t needed = 3 * (uint64_t)canvas->width * canvas->height + (is_lossless ? 4 : config.input.has_alpha ? 1 : 0) * pixels;
  if (!direct) needed += 4 * pixels;
  const graft_image_status plausible = graft_check_memory(needed, byte_count, message);
  if (plausible != GRAFT_IMAGE_OK) return plausible;

  uint8_t *rgba = direct ? NULL : malloc(4 * pixels);
  if (!direct && !rgba) return GRAFT_IMAGE_OUT_OF_MEMORY;
  config.output.is_external_memory = 1;
  config.output.colorspace = direct ? MODE_RGB : MODE_RGBA;
  config.output.u.RGBA = (WebPRGBABuffer){
      .rgba = direct ? direct : rgba,
      .stride = (int)(width * (direct ? 3 : 4)),
      .size = pixels * (direct ? 3 : 4),
  };
  const VP8StatusCode decoded = WebPDecode(frame->fragment.bytes, frame->fragment.size, &config);
  WebPFreeDecBuffer(&config.output);
  if (decoded == VP8_STATUS_OK && rgba) {
    for (uint32_t y = 0; y < height; y++) {
      graft_canvas_put_rgba(canvas, (uint32_t)frame->x_offset, 1, (uint32_t)frame->y_offset + y, width, rgba + 4 * (size_t)y * width);
    }
  }
  free(rgba);
  return decoded == VP8_STATUS_OK ? GRAFT_IMAGE_OK : fail(message, decoded);
}

static graft_image_status decode(graft_image_reader *base, const graft_canvas *canvas, graft_image_message *message) {
  const webp_reader *reader = (webp_reader *)base;
  WebPIterator frame;
  if (!WebPDemuxGetFrame(reader->demuxer, 1, &frame)) return graft_fail(message, GRAFT_IMAGE_DAMAGED, "it has no frame");
  const uint32_t width = (uint32_t)frame.width, height = (uint32_t)frame.height;
  graft_image_status status;
  if (frame.x_offset < 0 || frame.y_offset < 0 || frame.width < 1 || frame.height < 1
      || (uint64_t)frame.x_offset + width > canvas->width || (uint64_t)frame.y_offset + height > canvas->height) {
    status = graft_fail(message, GRAFT_IMAGE_DAMAGED, "a frame that leaves the canvas");
  } else {
    const int covers = width == canvas->width && height == canvas->height;
    if (!covers) {
      // what the frame leaves free is transparent black
      const size_t pixels = (size_t)canvas->width * canvas->height;
      for (size_t i = 0; i < pixels; i++) memcpy(canvas->pixels + 3 * i, canvas->composites ? canvas->background : (uint8_t[3]){0}, 3);
    }
    uint8_t *direct = covers && !canvas->composites ? graft_canvas_row(canvas, 0) : NULL;
    status = decode_frame(&frame, canvas, direct, reader->byte_count, message);
  }
  WebPDemuxReleaseIterator(&frame);
  return status;
}

static void close_reader(graft_image_reader *base) {
  webp_reader *reader = (webp_reader *)base;
  WebPDemuxDelete(reader->demuxer);
  free(reader);
}

graft_image_status graft_webp_open(
    const uint8_t *bytes, size_t byte_count, graft_image_reader **result, graft_image_header *header, graft_image_message *message) {
  const WebPData data = {.bytes = bytes, .size = byte_count};
  WebPDemuxState state;
  WebPDemuxer *demuxer = WebPDemuxPartial(&data, &state);
  if (state != WEBP_DEMUX_DONE) {
    WebPDemuxDelete(demuxer);
    if (state != WEBP_DEMUX_PARSE_ERROR) return GRAFT_IMAGE_TRUNCATED;
    return graft_fail(message, GRAFT_IMAGE_DAMAGED, "its chunks are not WebP's");
  }
  if (!demuxer) return GRAFT_IMAGE_OUT_OF_MEMORY;
  webp_reader *reader = calloc(1, sizeof *reader);
  if (!reader) {
    WebPDemuxDelete(demuxer);
    return GRAFT_IMAGE_OUT_OF_MEMORY;
  }
  *reader = (webp_reader){.base = {.decode = decode, .close = close_reader}, .demuxer = demuxer, .byte_count = byte_count};
  header->width = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH);
  header->height = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT);
  *result = &reader->base;
  return GRAFT_IMAGE_OK;
}
