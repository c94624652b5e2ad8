// Decompression of gzip files in memory, for data sets that come so.

#include "CCodecs.h"
#include <limits.h>
#include <zlib.h>

graft_gunzip_status graft_gunzip(const uint8_t *bytes, size_t byte_count, uint8_t *output, size_t capacity, size_t *written) {
  z_stream stream = {0};
  *written = 0;
  // 15 bits of window; 16 more mean a gzip header.
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return GRAFT_GUNZIP_OUT_OF_MEMORY;
  size_t read = 0;
  graft_gunzip_status status = GRAFT_GUNZIP_TRUNCATED;
  for (;;) {
    // zlib counts in 32 bits.
    const size_t input_piece = byte_count - read < UINT_MAX ? byte_count - read : UINT_MAX;
    const size_t output_piece = capacity - *written < UINT_MAX ? capacity - *written : UINT_MAX;
    if (output_piece == 0) {
      status = GRAFT_GUNZIP_FULL;
      break;
    }
    stream.next_in = (Bytef *)(bytes + read);
    stream.avail_in = (uInt)input_piece;
    stream.next_out = output + *written;
    stream.avail_out = (uInt)output_piece;
    const int code = inflate(&stream, Z_NO_FLUSH);
    const size_t consumed = input_piece - stream.avail_in, produced = output_piece - stream.avail_out;
    read += consumed;
    *written += produced;
    if (code == Z_STREAM_END) {
      // Another member may follow; what follows and is none is padding, as gzip has it.
      if (byte_count - read < 2 || bytes[read] != 0x1F || bytes[read + 1] != 0x8B) {
        status = GRAFT_GUNZIP_OK;
        break;
      }
      if (inflateReset(&stream) != Z_OK) {
        status = GRAFT_GUNZIP_DAMAGED;
        break;
      }
    } else if (code == Z_MEM_ERROR) {
      status = GRAFT_GUNZIP_OUT_OF_MEMORY;
      break;
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      status = GRAFT_GUNZIP_DAMAGED;
      break;
    } else if (consumed == 0 && produced == 0) {
      break; // the input has ended before the stream
    }
  }
  inflateEnd(&stream);
  return status;
}
