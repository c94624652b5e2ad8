#include "reader.h"

#include <stdarg.h>
#include <stdio.h>

graft_image_status graft_image_open(
    graft_image_format format, const uint8_t *bytes, size_t byte_count,
    graft_image_reader **reader, graft_image_header *header, graft_image_message *message) {
  *reader = NULL;
  *header = (graft_image_header){.orientation = 1};
  message->text[0] = 0;
  switch (format) {
    case GRAFT_IMAGE_JPEG: return graft_jpeg_open(bytes, byte_count, reader, header, message);
    case GRAFT_IMAGE_PNG: return graft_png_open(bytes, byte_count, reader, header, message);
    case GRAFT_IMAGE_WEBP: return graft_webp_open(bytes, byte_count, reader, header, message);
    case GRAFT_IMAGE_TIFF: return graft_tiff_open(bytes, byte_count, reader, header, message);
  }
  return GRAFT_IMAGE_UNSUPPORTED;
}

graft_image_status graft_image_decode(graft_image_reader *reader, const graft_canvas *canvas, graft_image_message *message) {
  message->text[0] = 0;
  return reader->decode(reader, canvas, message);
}

void graft_image_close(graft_image_reader *reader) {
  if (reader) reader->close(reader);
}

graft_image_status graft_fail(graft_image_message *message, graft_image_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message->text, sizeof message->text, format, arguments);
  va_end(arguments);
  return status;
}

graft_image_status graft_check_memory(uint64_t needed, size_t byte_count, graft_image_message *message) {
  const uint64_t granted = (uint64_t)768 << 20;
  if (needed <= granted || needed / 1024 <= byte_count) return GRAFT_IMAGE_OK;
  return graft_fail(
      message, GRAFT_IMAGE_IMPLAUSIBLE, "decoding needs %llu MiB, too much to grant a file of %zu bytes",
      (unsigned long long)(needed >> 20), byte_count);
}
