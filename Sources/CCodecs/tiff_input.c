// libtiff on bytes in memory, with its errors caught.

#include "tiff_input.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// Errors go to the input's message, the first one wins; warnings go nowhere.

static void note_error(graft_tiff_input *input, const char *format, va_list arguments) {
  if (input->message->text[0]) return;
  vsnprintf(input->message->text, sizeof input->message->text, format, arguments);
}

#if TIFFLIB_VERSION >= 20221213
static int handle_error(TIFF *file, void *user, const char *module, const char *format, va_list arguments) {
  (void)file, (void)module;
  note_error(user, format, arguments);
  return 1;
}

static int handle_warning(TIFF *file, void *user, const char *module, const char *format, va_list arguments) {
  (void)file, (void)user, (void)module, (void)format, (void)arguments;
  return 1;
}
#else
// Before 4.5 handlers belong to the process; the file's handle, which is the input, comes with each error.
static void handle_error(thandle_t handle, const char *module, const char *format, va_list arguments) {
  (void)module;
  if (handle) note_error(handle, format, arguments);
}

static void set_handlers(void) {
  TIFFSetErrorHandler(NULL);
  TIFFSetWarningHandler(NULL);
  TIFFSetErrorHandlerExt(handle_error);
}
#endif

static tmsize_t read_bytes(thandle_t handle, void *target, tmsize_t count) {
  graft_tiff_input *input = handle;
  if (count <= 0 || input->position >= input->byte_count) return 0;
  const size_t left = input->byte_count - input->position;
  const size_t part = (size_t)count < left ? (size_t)count : left;
  memcpy(target, input->bytes + input->position, part);
  input->position += part;
  return (tmsize_t)part;
}

static tmsize_t write_bytes(thandle_t handle, void *source, tmsize_t count) {
  (void)handle, (void)source, (void)count;
  return 0;
}

static toff_t seek(thandle_t handle, toff_t offset, int whence) {
  graft_tiff_input *input = handle;
  const uint64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? input->position : input->byte_count;
  input->position = (size_t)(base + offset);
  return input->position;
}

static int close_file(thandle_t handle) { return (void)handle, 0; }
static toff_t file_size(thandle_t handle) { return ((graft_tiff_input *)handle)->byte_count; }

static int map_file(thandle_t handle, void **start, toff_t *size) {
  graft_tiff_input *input = handle;
  *start = (void *)(uintptr_t)input->bytes;  // libtiff does not write to a file opened for reading
  *size = input->byte_count;
  return 1;
}

static void unmap_file(thandle_t handle, void *start, toff_t size) { (void)handle, (void)start, (void)size; }

TIFF *graft_tiff_open_input(graft_tiff_input *input) {
  // "r": the first directory; no more is looked at
#if TIFFLIB_VERSION >= 20221213
  TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
  if (!options) return NULL;
  const size_t floor = (size_t)256 << 20;
  TIFFOpenOptionsSetMaxSingleMemAlloc(options, (tmsize_t)(input->byte_count > floor / 2 ? 2 * input->byte_count : floor));
  TIFFOpenOptionsSetErrorHandlerExtR(options, handle_error, input);
  TIFFOpenOptionsSetWarningHandlerExtR(options, handle_warning, input);
  TIFF *file = TIFFClientOpenExt(
      "", "r", input, read_bytes, write_bytes, seek, close_file, file_size, map_file, unmap_file, options);
  TIFFOpenOptionsFree(options);
  return file;
#else
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, set_handlers);
  return TIFFClientOpen("", "r", input, read_bytes, write_bytes, seek, close_file, file_size, map_file, unmap_file);
#endif
}
