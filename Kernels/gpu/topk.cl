// The k greatest of each row, in descending order; of equal ones that with the lower index first, and NaN before everything.
//
//     y[row, 0, j] = the j-th value,  y[row, 1, j] = its index, as a float        x: [rows, columns], y: [rows, 2, k] float32
//
// A number and its index make one 64-bit key that sorts in this order, and no two keys of a row are equal.
//
// Two ways. Few of a row: k passes, each of which finds the greatest key below the last one (work-groups: ROW_COUNT rows of
// ROW_ITEMS work-items, rows.h). Many: an element's place is the number of greater keys, so that each work-item finds its own
// (work-items: elements of x). Nothing is kept between passes, so neither k nor columns has a limit here.
#include "gpu/rows.h"

static inline ulong key_of(float x, uint index) {
  uint bits = as_uint(x);
  // Zeros are equal whatever their sign; NaN is above infinity.
  if (bits == 0x80000000u) bits = 0;
  uint order = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) order = 0xFFC00000u;
  return (ulong)order << 32 | (uint)~index;
}

static inline void put(__global const element *x, ulong key, __global float *y, int place, int k) {
  uint index = ~(uint)key;
  y[place] = widen(x[index]);
  y[k + place] = (float)index;
}

// The greatest of the row's work-items' keys, for each of them.
static inline ulong row_greatest(ulong key, __local ulong *scratch) {
  int lane = row_lane();
  scratch += get_local_id(0) - lane;
  scratch[lane] = key;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int step = ROW_ITEMS / 2; step > 0; step /= 2) {
    if (lane < step) scratch[lane] = max(scratch[lane], scratch[lane + step]);
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  key = scratch[0];
  barrier(CLK_LOCAL_MEM_FENCE);
  return key;
}

__kernel ROWS_GROUP void top_k_select(__global const element *restrict x, __global float *restrict y, const GraftTopKParams p) {
  __local ulong scratch[ROW_SCRATCH];
  size_t row = row_index();
  bool exists = row < (size_t)p.rows;
  int lane = row_lane(), length = exists ? p.columns : 0;
  x += exists ? row * p.columns : 0;
  y += exists ? row * 2 * p.count : 0;
  ulong last = ULONG_MAX;
  for (int j = 0; j < p.count; ++j) {
    ulong greatest = 0;
    for (int i = lane; i < length; i += ROW_ITEMS) {
      ulong key = key_of(widen(x[i]), i);
      if (key < last) greatest = max(greatest, key);
    }
    last = row_greatest(greatest, scratch);
    if (exists && lane == 0) put(x, last, y, j, p.count);
  }
}

__kernel void top_k_rank(__global const element *restrict x, __global float *restrict y, const GraftTopKParams p) {
  size_t index = get_global_id(0);
  if (index >= (size_t)p.rows * p.columns) return;
  size_t row = index / p.columns;
  x += row * p.columns;
  ulong mine = key_of(widen(x[index - row * p.columns]), (uint)(index - row * p.columns));
  int place = 0;
  for (int i = 0; i < p.columns && place < p.count; ++i) place += key_of(widen(x[i]), i) > mine;
  if (place < p.count) put(x, mine, y + row * 2 * p.count, place, p.count);
}

// dx[row, index[row, j]] = dy[row, 0, j] into zeros. Work-items: rows k.
__kernel void top_k_gradient(__global const float *restrict y, __global const float *restrict dy, __global float *restrict dx, const GraftTopKParams p) {
  size_t index = get_global_id(0);
  if (index >= (size_t)p.rows * p.count) return;
  size_t row = index / p.count, j = index - row * p.count, at = row * 2 * p.count + j;
  int column = (int)y[at + p.count];
  if (column >= 0 && column < p.columns) dx[row * p.columns + column] = dy[at];
}
