// TIFF through libtiff: the first page of a file with whole-number samples of 1 to 8 or 16 bits, in strips or tiles.
//
// libtiff's own conversion to RGBA is used only for YCbCr that is compressed or subsampled, as Pillow uses it: it rounds 16 bits
// otherwise than Pillow, multiplies colours by alpha, and takes black and white of YCbCr from the file.

#include <stdlib.h>
#include <string.h>

#include "canvas.h"
#include "tiff_input.h"

typedef struct tiff_reader {
  graft_image_reader base;
  TIFF *file;
  graft_tiff_input input;
  uint32_t width, height;
  uint16_t planar, photometric, compression;
  graft_samples samples;
} tiff_reader;

static graft_image_status damaged(graft_image_message *message) {
  if (!message->text[0]) graft_fail(message, GRAFT_IMAGE_DAMAGED, "libtiff can't read it");
  return GRAFT_IMAGE_DAMAGED;
}

/// Rows one after the other: strips with samples side by side, which libtiff decodes in their order.
static graft_image_status decode_scanlines(tiff_reader *reader, const graft_canvas *canvas, graft_image_message *message) {
  const uint64_t row_bytes = TIFFScanlineSize64(reader->file);
  if (row_bytes < ((uint64_t)reader->width * reader->samples.channels * reader->samples.bits + 7) / 8) return damaged(message);
  const uint64_t pixels = (uint64_t)reader->width * reader->height;
  const graft_image_status plausible =
      graft_check_memory(3 * pixels + row_bytes + 4 * (uint64_t)reader->width, reader->input.byte_count, message);
  if (plausible != GRAFT_IMAGE_OK) return plausible;
  uint8_t *row = malloc(row_bytes), *rgba = malloc(4 * (size_t)reader->width);
  graft_image_status status = row && rgba ? GRAFT_IMAGE_OK : GRAFT_IMAGE_OUT_OF_MEMORY;
  for (uint32_t y = 0; status == GRAFT_IMAGE_OK && y < reader->height; y++) {
    if (TIFFReadScanline(reader->file, row, y, 0) < 0) {
      status = damaged(message);
      break;
    }
    if (graft_is_rgb8(&reader->samples, canvas)) {
      graft_canvas_put_rgb(canvas, 0, 1, y, reader->width, row);
    } else {
      graft_expand_row(&reader->samples, row, reader->width, rgba);
      graft_canvas_put_rgba(canvas, 0, 1, y, reader->width, rgba);
    }
  }
  free(row);
  free(rgba);
  return status;
}

/// Tiles, or strips whose samples lie in planes: [planes][rows][row_bytes] at a time.
typedef struct block_layout {
  uint32_t width, height, planes;
  uint64_t row_bytes, plane_bytes;
  int is_tiled;
} block_layout;

static int read_block(const tiff_reader *reader, const block_layout *layout, uint32_t x, uint32_t y, uint32_t rows, uint8_t *block) {
  for (uint32_t plane = 0; plane < layout->planes; plane++) {
    uint8_t *target = block + plane * layout->plane_bytes;
    const tmsize_t size = (tmsize_t)layout->plane_bytes;
    const tmsize_t count =
        layout->is_tiled ? TIFFReadEncodedTile(reader->file, TIFFComputeTile(reader->file, x, y, 0, (uint16_t)plane), target, size)
                         : TIFFReadEncodedStrip(reader->file, TIFFComputeStrip(reader->file, y, (uint16_t)plane), target, size);
    if (count < 0 || (uint64_t)count < rows * layout->row_bytes) return 0;
  }
  return 1;
}

static graft_image_status decode_blocks(tiff_reader *reader, const graft_canvas *canvas, graft_image_message *message) {
  const graft_samples *samples = &reader->samples;
  const int is_planar = reader->planar == PLANARCONFIG_SEPARATE;
  block_layout layout = {.planes = is_planar ? samples->channels : 1, .is_tiled = TIFFIsTiled(reader->file)};
  if (layout.is_tiled) {
    TIFFGetField(reader->file, TIFFTAG_TILEWIDTH, &layout.width);
    TIFFGetField(reader->file, TIFFTAG_TILELENGTH, &layout.height);
    layout.row_bytes = TIFFTileRowSize64(reader->file);
    layout.plane_bytes = TIFFTileSize64(reader->file);
  } else {
    TIFFGetFieldDefaulted(reader->file, TIFFTAG_ROWSPERSTRIP, &layout.height);
    layout.width = reader->width;
    if (layout.height > reader->height) layout.height = reader->height;
    layout.row_bytes = TIFFScanlineSize64(reader->file);
    layout.plane_bytes = TIFFStripSize64(reader->file);
  }
  const uint32_t row_samples = is_planar ? 1 : samples->channels;
  if (!layout.width || !layout.height || layout.row_bytes < ((uint64_t)layout.width * row_samples * samples->bits + 7) / 8
      || layout.plane_bytes / layout.row_bytes < layout.height) {
    return damaged(message);
  }
  if (is_planar && samples->bits < 8) return graft_fail(message, GRAFT_IMAGE_UNSUPPORTED, "planes of %u bits a sample", samples->bits);

  const size_t sample_bytes = samples->bits == 16 ? 2 : 1;
  const uint64_t pixels = (uint64_t)reader->width * reader->height;
  // planes are put side by side a row at a time
  const uint64_t row_memory = (uint64_t)layout.width * (4 + samples->channels * sample_bytes);
  const uint64_t block_memory = layout.planes * layout.plane_bytes;
  if (layout.plane_bytes > UINT64_MAX / 2 / layout.planes) return damaged(message);
  graft_image_status status = graft_check_memory(3 * pixels + block_memory + row_memory, reader->input.byte_count, message);
  if (status != GRAFT_IMAGE_OK) return status;
  uint8_t *block = malloc(block_memory), *row_buffers = malloc(row_memory);
  if (!block || !row_buffers) status = GRAFT_IMAGE_OUT_OF_MEMORY;
  uint8_t *rgba = row_buffers, *side_by_side = row_buffers ? row_buffers + 4 * (size_t)layout.width : NULL;

  for (uint32_t y = 0; status == GRAFT_IMAGE_OK && y < reader->height; y += layout.height) {
    const uint32_t rows = reader->height - y < layout.height ? reader->height - y : layout.height;
    for (uint32_t x = 0; status == GRAFT_IMAGE_OK && x < reader->width; x += layout.width) {
      const uint32_t columns = reader->width - x < layout.width ? reader->width - x : layout.width;
      if (!read_block(reader, &layout, x, y, rows, block)) {
        status = damaged(message);
        break;
      }
      for (uint32_t r = 0; r < rows; r++) {
        const uint8_t *row = block + r * layout.row_bytes;
        if (is_planar) {
          for (uint32_t plane = 0; plane < layout.planes; plane++) {
            const uint8_t *source = row + plane * layout.plane_bytes;
            for (size_t i = 0; i < columns; i++) {
              memcpy(side_by_side + (i * samples->channels + plane) * sample_bytes, source + i * sample_bytes, sample_bytes);
            }
          }
          row = side_by_side;
        }
        graft_expand_row(samples, row, columns, rgba);
        graft_canvas_put_rgba(canvas, x, 1, y + r, columns, rgba);
      }
      if (columns < layout.width) break;
    }
    if (rows < layout.height) break;
  }
  free(block);
  free(row_buffers);
  return status;
}

/// YCbCr that is compressed, but not by JPEG, or subsampled, through libtiff's conversion, a strip or a tile at a time. It has no alpha.
static graft_image_status decode_through_rgba(tiff_reader *reader, const graft_canvas *canvas, graft_image_message *message) {
  uint32_t width = reader->width, height = 0;
  const int is_tiled = TIFFIsTiled(reader->file);
  if (is_tiled) {
    TIFFGetField(reader->file, TIFFTAG_TILEWIDTH, &width);
    TIFFGetField(reader->file, TIFFTAG_TILELENGTH, &height);
  } else {
    TIFFGetFieldDefaulted(reader->file, TIFFTAG_ROWSPERSTRIP, &height);
    if (height > reader->height) height = reader->height;
  }
  char reason[1024] = "";
  if (!width || !height || !TIFFRGBAImageOK(reader->file, reason)) return damaged(message);
  // the raster, and libtiff's block before its conversion
  const uint64_t raster_bytes = 4 * (uint64_t)width * height;
  graft_image_status status =
      graft_check_memory(3 * (uint64_t)reader->width * reader->height + 2 * raster_bytes, reader->input.byte_count, message);
  if (status != GRAFT_IMAGE_OK) return status;
  uint32_t *raster = malloc(raster_bytes);
  if (!raster) return GRAFT_IMAGE_OUT_OF_MEMORY;
  for (uint64_t y = 0; y < reader->height && status == GRAFT_IMAGE_OK; y += height) {
    const uint32_t rows = reader->height - y < height ? (uint32_t)(reader->height - y) : height;
    for (uint64_t x = 0; x < reader->width; x += width) {
      const uint32_t columns = reader->width - x < width ? (uint32_t)(reader->width - x) : width;
      const int done = is_tiled ? TIFFReadRGBATileExt(reader->file, (uint32_t)x, (uint32_t)y, raster, 1)
                                : TIFFReadRGBAStripExt(reader->file, (uint32_t)y, raster, 1);
      if (!done) {
        status = damaged(message);
        break;
      }
      // rasters stand on their head: a tile in all its rows, a strip in those it has
      const uint32_t last = (is_tiled ? height : rows) - 1;
      for (uint32_t r = 0; r < rows; r++) {
        uint32_t *packed = raster + (size_t)(last - r) * width;
        uint8_t *rgba = (uint8_t *)packed;
        for (uint32_t i = 0; i < columns; i++) {
          const uint32_t pixel = packed[i];
          const uint8_t bytes[4] = {TIFFGetR(pixel), TIFFGetG(pixel), TIFFGetB(pixel), 255};
          memcpy(rgba + 4 * (size_t)i, bytes, 4);
        }
        graft_canvas_put_rgba(canvas, (uint32_t)x, 1, (uint32_t)y + r, columns, rgba);
      }
    }
  }
  free(raster);
  return status;
}

static graft_image_status decode(graft_image_reader *base, const graft_canvas *canvas, graft_image_message *message) {
  tiff_reader *reader = (tiff_reader *)base;
  reader->input.message = message;
  const int is_tiled = TIFFIsTiled(reader->file);
  // a strip that leaves the file tells a file cut short from one that is wrong
  const uint32_t blocks = is_tiled ? TIFFNumberOfTiles(reader->file) : TIFFNumberOfStrips(reader->file);
  for (uint32_t i = 0; i < blocks; i++) {
    const uint64_t offset = TIFFGetStrileOffset(reader->file, i), count = TIFFGetStrileByteCount(reader->file, i);
    if (offset > reader->input.byte_count || count > reader->input.byte_count - offset) return GRAFT_IMAGE_TRUNCATED;
  }
  const int is_planar = reader->planar == PLANARCONFIG_SEPARATE;
  if (reader->photometric == PHOTOMETRIC_YCBCR && reader->samples.colour != GRAFT_YCBCR) {
    if (reader->compression != COMPRESSION_JPEG || is_planar) return decode_through_rgba(reader, canvas, message);
    TIFFSetField(reader->file, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
  }
  return is_tiled || is_planar ? decode_blocks(reader, canvas, message) : decode_scanlines(reader, canvas, message);
}

/// The colour, depth and alpha of the first directory, or why it is not read.
static graft_image_status read_layout(tiff_reader *reader, graft_image_message *message) {
  TIFF *file = reader->file;
  uint16_t bits = 1, channels = 1, format = SAMPLEFORMAT_UINT, extra_count = 0, *extras = NULL;
  TIFFGetFieldDefaulted(file, TIFFTAG_BITSPERSAMPLE, &bits);
  TIFFGetFieldDefaulted(file, TIFFTAG_SAMPLESPERPIXEL, &channels);
  TIFFGetFieldDefaulted(file, TIFFTAG_SAMPLEFORMAT, &format);
  TIFFGetFieldDefaulted(file, TIFFTAG_PLANARCONFIG, &reader->planar);
  TIFFGetFieldDefaulted(file, TIFFTAG_COMPRESSION, &reader->compression);
  TIFFGetFieldDefaulted(file, TIFFTAG_EXTRASAMPLES, &extra_count, &extras);
  if (!TIFFGetField(file, TIFFTAG_PHOTOMETRIC, &reader->photometric)) {
    return graft_fail(message, GRAFT_IMAGE_DAMAGED, "it does not say how its samples are to be read");
  }
  switch (reader->compression) {
    case COMPRESSION_NONE:
    case COMPRESSION_CCITTRLE:
    case COMPRESSION_CCITTFAX3:
    case COMPRESSION_CCITTFAX4:
    case COMPRESSION_CCITTRLEW:
    case COMPRESSION_LZW:
    case COMPRESSION_JPEG:
    case COMPRESSION_ADOBE_DEFLATE:
    case COMPRESSION_DEFLATE:
    case COMPRESSION_PACKBITS:
    case COMPRESSION_ZSTD: break;
    default: return graft_fail(message, GRAFT_IMAGE_UNSUPPORTED, "compression scheme %u", reader->compression);
  }
  if (!TIFFIsCODECConfigured(reader->compression)) {
    return graft_fail(message, GRAFT_IMAGE_UNSUPPORTED, "compression scheme %u, which this libtiff was built without", reader->compression);
  }
  if (bits != 1 && bits != 2 && bits != 4 && bits != 8 && bits != 16) {
    return graft_fail(message, GRAFT_IMAGE_UNSUPPORTED, "%u bits a sample", bits);
  }
  // Pillow reads signed bytes as unsigned ones, too
  const int is_signed_byte = format == SAMPLEFORMAT_INT && bits == 8;
  if (format != SAMPLEFORMAT_UINT && format != SAMPLEFORMAT_VOID && !is_signed_byte) {
    return graft_fail(message, GRAFT_IMAGE_UNSUPPORTED, "samples that are not unsigned whole numbers");
  }
  graft_samples *samples = &reader->samples;
  samples->bits = bits;
  samples->channels = channels;
  uint32_t colours = 1;
  switch (reader->photometric) {
    case PHOTOMETRIC_MINISWHITE: samples->inverted = 1; break;
    case PHOTOMETRIC_MINISBLACK: break;
    case PHOTOMETRIC_YCBCR:
      if (bits != 8) return graft_fail(message, GRAFT_IMAGE_UNSUPPORTED, "YCbCr of %u bits a sample", bits);
      samples->colour = GRAFT_RGB, colours = 3;
      uint16_t across = 0, down = 0;
      TIFFGetFieldDefaulted(file, TIFFTAG_YCBCRSUBSAMPLING, &across, &down);
      if (reader->compression == COMPRESSION_NONE && reader->planar == PLANARCONFIG_CONTIG && channels == 3 && across == 1 && down == 1) {
        samples->colour = GRAFT_YCBCR;
      }
      break;
    case PHOTOMETRIC_RGB: samples->colour = GRAFT_RGB, colours = 3; break;
    case PHOTOMETRIC_SEPARATED: samples->colour = GRAFT_CMYK, colours = 4; break;
    case PHOTOMETRIC_PALETTE: {
      samples->colour = GRAFT_PALETTE;
      uint16_t *red, *green, *blue;
      if (bits > 8 || !TIFFGetField(file, TIFFTAG_COLORMAP, &red, &green, &blue)) {
        return graft_fail(message, GRAFT_IMAGE_DAMAGED, "no palette");
      }
      const uint32_t count = 1u << bits;
      uint32_t largest = 0;
      for (uint32_t i = 0; i < count; i++) largest |= (uint32_t)red[i] | green[i] | blue[i];
      // 16 bits by the standard; some old writers stored 8
      const uint32_t shift = largest > 255 ? 8 : 0;
      graft_palette_reset(samples);
      for (uint32_t i = 0; i < count; i++) {
        const uint8_t entry[3] = {(uint8_t)(red[i] >> shift), (uint8_t)(green[i] >> shift), (uint8_t)(blue[i] >> shift)};
        memcpy(samples->palette[i], entry, 3);
      }
      break;
    }
    default: return graft_fail(message, GRAFT_IMAGE_UNSUPPORTED, "colours of kind %u", reader->photometric);
  }
  if (channels < colours || channels > 16) return graft_fail(message, GRAFT_IMAGE_UNSUPPORTED, "%u samples a pixel", channels);
  if (extra_count && extras) {
    if (extras[0] == EXTRASAMPLE_ASSOCALPHA) samples->alpha = GRAFT_PREMULTIPLIED;
    if (extras[0] == EXTRASAMPLE_UNASSALPHA) samples->alpha = GRAFT_STRAIGHT;
  } else if (samples->colour == GRAFT_RGB && channels == 4) {
    samples->alpha = GRAFT_STRAIGHT;  // four samples without a word about the fourth: Pillow, too, takes it for alpha
  }
  if (channels == colours) samples->alpha = GRAFT_OPAQUE;
  return GRAFT_IMAGE_OK;
}

static void close_reader(graft_image_reader *base) {
  tiff_reader *reader = (tiff_reader *)base;
  graft_image_message ignored = {0};
  reader->input.message = &ignored;
  if (reader->file) TIFFClose(reader->file);
  free(reader);
}

/// Whether the first directory lies beyond the end.
static int lacks_directory(const uint8_t *bytes, size_t byte_count) {
  if (byte_count < 16) return 1;
  const int is_little = bytes[0] == 'I';
  const int is_big_tiff = bytes[is_little ? 2 : 3] == 43;
  uint64_t offset = 0;
  const uint8_t *field = bytes + (is_big_tiff ? 8 : 4);
  const int width = is_big_tiff ? 8 : 4;
  for (int i = 0; i < width; i++) offset = offset << 8 | field[is_little ? width - 1 - i : i];
  return offset > byte_count - 2;
}

graft_image_status graft_tiff_open(
    const uint8_t *bytes, size_t byte_count, graft_image_reader **result, graft_image_header *header, graft_image_message *message) {
  if (lacks_directory(bytes, byte_count)) return GRAFT_IMAGE_TRUNCATED;
  tiff_reader *reader = calloc(1, sizeof *reader);
  if (!reader) return GRAFT_IMAGE_OUT_OF_MEMORY;
  reader->base = (graft_image_reader){.decode = decode, .close = close_reader};
  reader->input = (graft_tiff_input){.bytes = bytes, .byte_count = byte_count, .message = message};
  reader->file = graft_tiff_open_input(&reader->input);
  graft_image_status status = reader->file ? GRAFT_IMAGE_OK : damaged(message);
  if (reader->file) {
    if (!TIFFGetField(reader->file, TIFFTAG_IMAGEWIDTH, &reader->width)
        || !TIFFGetField(reader->file, TIFFTAG_IMAGELENGTH, &reader->height) || !reader->width || !reader->height) {
      status = graft_fail(message, GRAFT_IMAGE_DAMAGED, "it has no size");
    } else {
      status = read_layout(reader, message);
    }
  }
  if (status != GRAFT_IMAGE_OK) {
    close_reader(&reader->base);
    return status;
  }
  uint16_t orientation = 1;
  TIFFGetFieldDefaulted(reader->file, TIFFTAG_ORIENTATION, &orientation);
  header->width = reader->width;
  header->height = reader->height;
  header->orientation = orientation >= 1 && orientation <= 8 ? orientation : 1;
  // kept errors of the directory are no errors of the picture
  message->text[0] = 0;
  *result = &reader->base;
  return GRAFT_IMAGE_OK;
}
