// Separable resampling of RGB bytes with the results of Pillow's: weights of 22 fractional bits, exact integer sums, and a
// rounding to bytes between the horizontal and the vertical pass.
//
// Integer sums do not depend on their order, so the loops are free to be what vector units like:
//
//   source rows ──16 at a time──► lanes [x][channel][16 rows] ──columns' taps──► [x'][channel][16 rows]
//     ──► 16 finished rows [16][x'][channel] ──rows' taps──► sums of every output row they touch [y'][x'][channel]
//
// With one row a lane, a tap is a broadcast weight times 48 neighbouring bytes, whatever its position; turning 16 × 16
// bytes costs four rounds of interleaving. An output row is written as soon as its last source row has been seen, so no
// intermediate picture is stored. Memory beyond the output: the sums, 4 bytes an output sample.

#include <string.h>

#include "CCodecs.h"

enum { lanes = GRAFT_RESAMPLE_LANES, pixel_lanes = 3 * lanes, precision = 22 };

// Compiled for the common instruction sets of x86 and chosen when the program is loaded; elsewhere the baseline will do.
#if defined(__x86_64__) && defined(__linux__) && __has_attribute(target_clones)
#define GRAFT_VECTOR __attribute__((target_clones("avx512bw", "avx2", "default")))
#else
#define GRAFT_VECTOR
#endif
#define GRAFT_INLINE static inline __attribute__((always_inline))

typedef uint8_t bytes16 __attribute__((vector_size(16)));

/// Transposes 16 × 16 bytes: four rounds, each interleaving vector i with vector i + 8.
GRAFT_INLINE void transpose16(bytes16 v[16]) {
  for (int round = 0; round < 4; round++) {
    bytes16 next[16];
    for (int i = 0; i < 8; i++) {
      next[2 * i] = __builtin_shufflevector(v[i], v[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      next[2 * i + 1] = __builtin_shufflevector(v[i], v[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    for (int i = 0; i < 16; i++) v[i] = next[i];
  }
}

GRAFT_INLINE uint8_t round_to_byte(int32_t sum) {
  const int32_t value = sum >> precision;
  return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/// rows: 16 pointers to `count` bytes → lanes [count][16]. Reads no byte beyond a row's end.
GRAFT_VECTOR static void rows_to_lanes(const uint8_t *const rows[lanes], size_t count, uint8_t *target) {
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    bytes16 block[16];
    for (int r = 0; r < lanes; r++) memcpy(&block[r], rows[r] + i, 16);
    transpose16(block);
    memcpy(target + i * lanes, block, sizeof block);
  }
  for (; i < count; i++) {
    for (int r = 0; r < lanes; r++) target[i * lanes + (size_t)r] = rows[r][i];
  }
}

/// lanes [count][16] → target [16][count].
GRAFT_VECTOR static void lanes_to_rows(const uint8_t *source, size_t count, uint8_t *target) {
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    bytes16 block[16];
    memcpy(block, source + i * lanes, sizeof block);
    transpose16(block);
    for (int r = 0; r < lanes; r++) memcpy(target + (size_t)r * count + i, &block[r], 16);
  }
  for (; i < count; i++) {
    for (int r = 0; r < lanes; r++) target[(size_t)r * count + i] = source[i * lanes + (size_t)r];
  }
}

/// source: lanes of the pixels from `first` on; target: lanes of the output pixels.
GRAFT_VECTOR static void resample_lanes(const uint8_t *source, int32_t first, const graft_taps *taps, uint8_t *target) {
  for (uint32_t x = 0; x < taps->output_count; x++) {
    const int32_t *weights = taps->weights + (size_t)x * taps->stride;
    const uint8_t *pixel = source + (size_t)(taps->starts[x] - first) * pixel_lanes;
    int32_t sums[pixel_lanes];
    for (int i = 0; i < pixel_lanes; i++) sums[i] = 1 << (precision - 1);
    for (int32_t t = 0; t < taps->counts[x]; t++, pixel += pixel_lanes) {
      const int32_t weight = weights[t];
      for (int i = 0; i < pixel_lanes; i++) sums[i] += pixel[i] * weight;
    }
    for (int i = 0; i < pixel_lanes; i++) target[(size_t)x * pixel_lanes + (size_t)i] = round_to_byte(sums[i]);
  }
}

/// Adds `count` weighted rows of `width` bytes to the sums.
GRAFT_VECTOR static void accumulate_rows(const uint8_t *rows, size_t width, const int32_t *weights, int32_t count, int32_t *sums) {
  enum { chunk = 64 };
  size_t i = 0;
  for (; i + chunk <= width; i += chunk) {
    int32_t part[chunk];
    memcpy(part, sums + i, sizeof part);
    for (int32_t t = 0; t < count; t++) {
      const uint8_t *row = rows + (size_t)t * width + i;
      const int32_t weight = weights[t];
      for (int j = 0; j < chunk; j++) part[j] += row[j] * weight;
    }
    memcpy(sums + i, part, sizeof part);
  }
  for (; i < width; i++) {
    for (int32_t t = 0; t < count; t++) sums[i] += rows[(size_t)t * width + i] * weights[t];
  }
}

GRAFT_VECTOR static void write_row(const int32_t *sums, size_t width, uint8_t *target) {
  for (size_t i = 0; i < width; i++) target[i] = round_to_byte(sums[i]);
}

/// One past the last source index that the taps need.
static int32_t end_of(const graft_taps *taps) {
  int32_t end = 0;
  for (uint32_t i = 0; i < taps->output_count; i++) {
    if (taps->starts[i] + taps->counts[i] > end) end = taps->starts[i] + taps->counts[i];
  }
  return end;
}

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

typedef struct scratch_layout {
  size_t source_lanes, target_lanes, finished, sums, total;
} scratch_layout;

static scratch_layout lay_out(const graft_taps *columns, const graft_taps *rows) {
  const size_t width = 3 * (size_t)columns->output_count;
  scratch_layout layout;
  layout.source_lanes = 0;
  layout.target_lanes = layout.source_lanes + aligned((size_t)(end_of(columns) - columns->starts[0]) * pixel_lanes);
  layout.finished = layout.target_lanes + aligned(width * lanes);
  layout.sums = layout.finished + aligned(width * lanes);
  layout.total = layout.sums + aligned(width * rows->output_count * sizeof(int32_t));
  return layout;
}

size_t graft_resample_scratch_bytes(const graft_taps *columns, const graft_taps *rows) { return lay_out(columns, rows).total; }

void graft_resample(
    const uint8_t *source, size_t source_row_bytes, const graft_taps *columns, const graft_taps *rows,
    uint8_t *output, size_t output_row_bytes, void *scratch) {
  const scratch_layout layout = lay_out(columns, rows);
  uint8_t *source_lanes = (uint8_t *)scratch + layout.source_lanes, *target_lanes = (uint8_t *)scratch + layout.target_lanes;
  uint8_t *finished = (uint8_t *)scratch + layout.finished;
  int32_t *sums = (int32_t *)((uint8_t *)scratch + layout.sums);
  const size_t width = 3 * (size_t)columns->output_count;
  const int32_t first_column = columns->starts[0], column_end = end_of(columns), row_end = end_of(rows);
  for (size_t i = 0; i < width * rows->output_count; i++) sums[i] = 1 << (precision - 1);

  uint32_t next = 0;  // the first output row that is not written yet
  for (int32_t top = rows->starts[0]; top < row_end; top += lanes) {
    const int32_t bottom = row_end - top < lanes ? row_end : top + lanes;
    const uint8_t *pointers[lanes];
    for (int32_t r = 0; r < lanes; r++) {
      const int32_t y = top + r < bottom ? top + r : bottom - 1;
      pointers[r] = source + (size_t)y * source_row_bytes + 3 * (size_t)first_column;
    }
    rows_to_lanes(pointers, 3 * (size_t)(column_end - first_column), source_lanes);
    resample_lanes(source_lanes, first_column, columns, target_lanes);
    lanes_to_rows(target_lanes, width, finished);
    for (uint32_t y = next; y < rows->output_count && rows->starts[y] < bottom; y++) {
      const int32_t start = rows->starts[y], end = start + rows->counts[y];
      const int32_t from = start > top ? start : top, to = end < bottom ? end : bottom;
      if (from < to) {
        const int32_t *weights = rows->weights + (size_t)y * rows->stride + (from - start);
        accumulate_rows(finished + (size_t)(from - top) * width, width, weights, to - from, sums + (size_t)y * width);
      }
    }
    while (next < rows->output_count && rows->starts[next] + rows->counts[next] <= bottom) {
      write_row(sums + (size_t)next * width, width, output + (size_t)next * output_row_bytes);
      next++;
    }
  }
}
