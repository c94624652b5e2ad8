#pragma once
// libtiff on bytes in memory, with its errors caught.

#include <tiffio.h>

#include "reader.h"

typedef struct graft_tiff_input {
  const uint8_t *bytes;
  size_t byte_count, position;
  /// Where the first error goes; the caller may change it between calls of libtiff.
  graft_image_message *message;
} graft_tiff_input;

/// A handle on the file's first directory; NULL, and perhaps a message, if libtiff can't read it. The input must outlive it.
TIFF *graft_tiff_open_input(graft_tiff_input *input);
