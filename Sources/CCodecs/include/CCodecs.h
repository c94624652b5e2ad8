#pragma once
// Image decoders and the resampler's inner loops, for GraftData.
//
// A picture is decoded in two steps, so that nothing is allocated on the word of a header alone: `graft_image_open` reads
// the header, the caller checks the size and allocates the pixels, `graft_image_decode` fills them. No function prints,
// traps or keeps state between readers; readers may be used on any thread, one thread at a time.

#include <stddef.h>
#include <stdint.h>

typedef enum graft_image_format {
  GRAFT_IMAGE_JPEG,
  GRAFT_IMAGE_PNG,
  GRAFT_IMAGE_WEBP,
  GRAFT_IMAGE_TIFF,
} graft_image_format;

typedef enum graft_image_status {
  GRAFT_IMAGE_OK,
  /// The bytes end before the picture does.
  GRAFT_IMAGE_TRUNCATED,
  /// The bytes break the format's rules.
  GRAFT_IMAGE_DAMAGED,
  /// A valid file of a kind that is not read.
  GRAFT_IMAGE_UNSUPPORTED,
  /// The header asks for more memory than so few bytes can justify.
  GRAFT_IMAGE_IMPLAUSIBLE,
  GRAFT_IMAGE_OUT_OF_MEMORY,
} graft_image_status;

/// What went wrong, in words; empty if the status says it all.
typedef struct graft_image_message {
  char text[240];
} graft_image_message;

typedef struct graft_image_header {
  /// As stored, before any orientation.
  uint32_t width, height;
  /// TIFF's orientation, 1…8, which every reader applies; 1 for other formats, whose EXIF data are the caller's business.
  uint32_t orientation;
} graft_image_header;

/// Where decoded rows go: [height, width, 3] bytes of RGB, turned as `orientation` asks.
typedef struct graft_canvas {
  uint8_t *pixels;
  /// The size as stored; for orientations 5…8 the pixels are `height` wide and `width` high.
  uint32_t width, height;
  /// 1…8, as EXIF's.
  uint32_t orientation;
  /// Whether transparent pixels are composited over `background`; otherwise alpha is dropped.
  int composites;
  uint8_t background[3];
} graft_canvas;

typedef struct graft_image_reader graft_image_reader;

/// Reads the header. `bytes` must live as long as the reader; `*reader` is NULL unless the status is OK.
graft_image_status graft_image_open(
    graft_image_format format, const uint8_t *bytes, size_t byte_count,
    graft_image_reader **reader, graft_image_header *header, graft_image_message *message);

/// Decodes into `canvas`, whose size is the header's. Every pixel is written if the status is OK. Once a reader.
graft_image_status graft_image_decode(graft_image_reader *reader, const graft_canvas *canvas, graft_image_message *message);

void graft_image_close(graft_image_reader *reader);

/// OK, or IMPLAUSIBLE if decoding needs `needed` bytes of memory and a file of `byte_count` bytes can't be a picture worth
/// that: a kilobyte of memory a byte, and 768 MiB in any case, are granted.
graft_image_status graft_check_memory(uint64_t needed, size_t byte_count, graft_image_message *message);

/// One axis of a separable resampling: output i is the sum over t < counts[i] of weights[i * stride + t] times the input
/// at starts[i] + t, in fixed point with 22 fractional bits.
typedef struct graft_taps {
  uint32_t output_count;
  uint32_t stride;
  const int32_t *starts;
  const int32_t *counts;
  const int32_t *weights;
} graft_taps;

/// Rows that are resampled together: one to a vector lane.
#define GRAFT_RESAMPLE_LANES 16

/// Bytes of scratch memory that `graft_resample` needs.
size_t graft_resample_scratch_bytes(const graft_taps *columns, const graft_taps *rows);

/// Resamples RGB bytes along x, rounds to bytes, then along y: what `rows` needs of `source`, and no more.
///
/// source: rows of `source_row_bytes`; output: [rows->output_count, columns->output_count, 3] in rows of
/// `output_row_bytes`. `starts` may not decrease in either axis.
void graft_resample(
    const uint8_t *source, size_t source_row_bytes, const graft_taps *columns, const graft_taps *rows,
    uint8_t *output, size_t output_row_bytes, void *scratch);

typedef enum graft_gunzip_status {
  /// Everything is decompressed and its checksum right.
  GRAFT_GUNZIP_OK,
  /// `capacity` bytes are written, and there may be more.
  GRAFT_GUNZIP_FULL,
  GRAFT_GUNZIP_TRUNCATED,
  GRAFT_GUNZIP_DAMAGED,
  GRAFT_GUNZIP_OUT_OF_MEMORY,
} graft_gunzip_status;

/// Decompresses a gzip file into at most `capacity` bytes; `*written` says how many are there, whatever the status.
graft_gunzip_status graft_gunzip(const uint8_t *bytes, size_t byte_count, uint8_t *output, size_t capacity, size_t *written);
