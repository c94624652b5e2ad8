// JPEG through libjpeg-turbo: baseline, progressive and arithmetic; grey, YCbCr, RGB, CMYK and YCCK.
//
// The libjpeg API rather than TurboJPEG's: a source of our own tells a file that ends early (an error) from the harmless
// warnings that real photos give, and coefficient memory can be foreseen. Decoding is libjpeg's default, as Pillow's:
// the accurate integer DCT and fancy upsampling.

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
// jerror.h wants jpeglib.h first
#include <jerror.h>

#include "canvas.h"
#include "reader.h"

typedef struct jpeg_reader {
  graft_image_reader base;
  struct jpeg_decompress_struct decompress;
  struct jpeg_error_mgr errors;
  struct jpeg_source_mgr source;
  struct jpeg_progress_mgr progress;
  jmp_buf failure;
  graft_image_status status;
  graft_image_message *message;
  size_t byte_count;
} jpeg_reader;

/// A real progressive file has about ten; thousands in a small file would only burn time.
enum { scan_limit = 500 };

static jpeg_reader *reader_of(j_common_ptr common) { return common->client_data; }

static _Noreturn void fail(j_common_ptr common) {
  jpeg_reader *reader = reader_of(common);
  switch (common->err->msg_code) {
    case JERR_INPUT_EOF:
    case JERR_INPUT_EMPTY: reader->status = GRAFT_IMAGE_TRUNCATED; break;
    case JERR_OUT_OF_MEMORY: reader->status = GRAFT_IMAGE_OUT_OF_MEMORY; break;
    case JERR_SOF_UNSUPPORTED:
    case JERR_BAD_PRECISION:
    case JERR_ARITH_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL: reader->status = GRAFT_IMAGE_UNSUPPORTED; break;
    default: reader->status = GRAFT_IMAGE_DAMAGED;
  }
  char text[JMSG_LENGTH_MAX];
  common->err->format_message(common, text);
  graft_fail(reader->message, reader->status, "%s", text);
  longjmp(reader->failure, 1);
}

// Warnings, of bytes between markers or entropy-coded data that stop at one, leave a picture: Pillow accepts them too.
static void ignore_message(j_common_ptr common, int level) { (void)common, (void)level; }
static void print_nothing(j_common_ptr common) { (void)common; }
static void do_nothing(j_decompress_ptr decompress) { (void)decompress; }

static boolean out_of_bytes(j_decompress_ptr decompress) {
  ERREXIT(decompress, JERR_INPUT_EOF);
  return FALSE;
}

static void skip_bytes(j_decompress_ptr decompress, long count) {
  if (count <= 0) return;
  if ((unsigned long)count > decompress->src->bytes_in_buffer) ERREXIT(decompress, JERR_INPUT_EOF);
  decompress->src->next_input_byte += count;
  decompress->src->bytes_in_buffer -= (size_t)count;
}

static void watch_scans(j_common_ptr common) {
  jpeg_reader *reader = reader_of(common);
  if (reader->decompress.input_scan_number <= scan_limit) return;
  reader->status = graft_fail(reader->message, GRAFT_IMAGE_DAMAGED, "more than %d scans", scan_limit);
  longjmp(reader->failure, 1);
}

static void close_reader(graft_image_reader *base) {
  jpeg_reader *reader = (jpeg_reader *)base;
  jpeg_destroy_decompress(&reader->decompress);
  free(reader);
}

/// Refuses a header whose picture can't be in so few bytes, before memory is taken for it.
static graft_image_status check_plausible(jpeg_reader *reader) {
  const struct jpeg_decompress_struct *decompress = &reader->decompress;
  uint64_t blocks = 0;
  for (int c = 0; c < decompress->num_components; c++) {
    blocks += (uint64_t)decompress->comp_info[c].width_in_blocks * decompress->comp_info[c].height_in_blocks;
  }
  // Huffman codes have at least one bit: a block has a DC code, and in a sequential file an AC code. (Arithmetic coding
  // has no such bound.)
  const uint64_t bits = decompress->progressive_mode ? blocks : 2 * blocks;
  if (!decompress->arith_code && bits / 8 > reader->byte_count) return GRAFT_IMAGE_TRUNCATED;
  const int keeps_coefficients = decompress->progressive_mode || jpeg_has_multiple_scans(&reader->decompress);
  const uint64_t pixels = (uint64_t)decompress->image_width * decompress->image_height;
  return graft_check_memory(3 * pixels + (keeps_coefficients ? blocks * sizeof(JBLOCK) : 0), reader->byte_count, reader->message);
}

static graft_image_status decode(graft_image_reader *base, const graft_canvas *canvas, graft_image_message *message) {
  jpeg_reader *reader = (jpeg_reader *)base;
  struct jpeg_decompress_struct *decompress = &reader->decompress;
  reader->message = message;
  // what is allocated below belongs to libjpeg, which frees it in close
  if (setjmp(reader->failure)) return reader->status;
  const graft_image_status plausible = check_plausible(reader);
  if (plausible != GRAFT_IMAGE_OK) return plausible;
  const int is_cmyk = decompress->num_components == 4;
  decompress->out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(decompress);

  const JDIMENSION width = decompress->output_width;
  JSAMPARRAY rows = NULL;
  uint8_t *rgb = NULL;
  if (is_cmyk || canvas->orientation != 1) {
    const JDIMENSION row_bytes = width * (JDIMENSION)decompress->output_components;
    rows = decompress->mem->alloc_sarray((j_common_ptr)decompress, JPOOL_IMAGE, row_bytes, 1);
    if (is_cmyk) rgb = decompress->mem->alloc_large((j_common_ptr)decompress, JPOOL_IMAGE, (size_t)width * 3);
  }
  while (decompress->output_scanline < decompress->output_height) {
    const uint32_t y = decompress->output_scanline;
    if (!rows) {
      // libjpeg gives as many rows at a time as it has
      JSAMPROW direct[16];
      JDIMENSION count = decompress->output_height - y;
      if (count > 16) count = 16;
      for (JDIMENSION i = 0; i < count; i++) direct[i] = graft_canvas_row(canvas, y + i);
      jpeg_read_scanlines(decompress, direct, count);
      continue;
    }
    jpeg_read_scanlines(decompress, rows, 1);
    const uint8_t *row = rows[0];
    if (is_cmyk) {
      // Adobe's convention, which Pillow takes for granted: 255 is no ink
      for (JDIMENSION x = 0; x < width; x++) {
        const uint8_t *ink = row + 4 * (size_t)x;
        graft_cmyk_to_rgb(255 - ink[0], 255 - ink[1], 255 - ink[2], 255 - ink[3], rgb + 3 * (size_t)x);
      }
      row = rgb;
    }
    graft_canvas_put_rgb(canvas, 0, 1, y, width, row);
  }
  jpeg_finish_decompress(decompress);
  return GRAFT_IMAGE_OK;
}

graft_image_status graft_jpeg_open(
    const uint8_t *bytes, size_t byte_count, graft_image_reader **result, graft_image_header *header, graft_image_message *message) {
  jpeg_reader *reader = calloc(1, sizeof *reader);
  if (!reader) return GRAFT_IMAGE_OUT_OF_MEMORY;
  reader->base.decode = decode;
  reader->base.close = close_reader;
  reader->message = message;
  reader->byte_count = byte_count;
  struct jpeg_decompress_struct *decompress = &reader->decompress;
  decompress->err = jpeg_std_error(&reader->errors);
  reader->errors.error_exit = fail;
  reader->errors.emit_message = ignore_message;
  reader->errors.output_message = print_nothing;
  decompress->client_data = reader;
  if (setjmp(reader->failure)) {
    const graft_image_status status = reader->status;
    close_reader(&reader->base);
    return status;
  }
  jpeg_create_decompress(decompress);
  reader->source = (struct jpeg_source_mgr){
      .next_input_byte = bytes,
      .bytes_in_buffer = byte_count,
      .init_source = do_nothing,
      .fill_input_buffer = out_of_bytes,
      .skip_input_data = skip_bytes,
      .resync_to_restart = jpeg_resync_to_restart,
      .term_source = do_nothing,
  };
  decompress->src = &reader->source;
  reader->progress.progress_monitor = watch_scans;
  decompress->progress = &reader->progress;
  jpeg_read_header(decompress, TRUE);
  const int components = decompress->num_components;
  if (components != 1 && components != 3 && components != 4) {
    close_reader(&reader->base);
    return graft_fail(message, GRAFT_IMAGE_UNSUPPORTED, "%d components", components);
  }
  header->width = decompress->image_width;
  header->height = decompress->image_height;
  *result = &reader->base;
  return GRAFT_IMAGE_OK;
}
