#pragma once
// What a format's decoder gives to images.c.

#include "CCodecs.h"

/// A reader begins with this; the rest is the format's own.
struct graft_image_reader {
  graft_image_status (*decode)(graft_image_reader *, const graft_canvas *, graft_image_message *);
  void (*close)(graft_image_reader *);
};

typedef graft_image_status graft_image_opener(
    const uint8_t *bytes, size_t byte_count, graft_image_reader **reader, graft_image_header *header, graft_image_message *message);

graft_image_opener graft_jpeg_open, graft_png_open, graft_webp_open, graft_tiff_open;

/// Writes the message, cut to fit, and returns the status.
graft_image_status graft_fail(graft_image_message *message, graft_image_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
