// Work-items that share rows: ROW_ITEMS neighbours a row, ROW_COUNT rows a work-group, and their sums and maxima.
//
// A row's element i belongs to work-item i % ROW_ITEMS; partial results meet in local memory and are halved until one is
// left: a fixed order for a given length. Every work-item of a group takes part, whether its row exists or not: a row that
// does not has length 0.
#ifndef GRAFT_GPU_ROWS_H
#define GRAFT_GPU_ROWS_H
#include "gpu/activation.h"

#ifndef ROW_ITEMS
#define ROW_ITEMS 64  // a power of two
#endif
#ifndef ROW_COUNT
#define ROW_COUNT 4   // ROW_ITEMS ROW_COUNT is the work-group's size
#endif
#define ROWS_GROUP __attribute__((reqd_work_group_size(ROW_ITEMS * ROW_COUNT, 1, 1)))
#define ROW_SCRATCH (ROW_ITEMS * ROW_COUNT)

static inline int row_lane(void) { return get_local_id(0) % ROW_ITEMS; }
static inline size_t row_index(void) { return get_group_id(0) * ROW_COUNT + get_local_id(0) / ROW_ITEMS; }

// The sum (or, with `greatest`, the maximum) over the row's work-items, for each of them. A NaN is no maximum.
static inline float row_total(float value, __local float *scratch, const bool greatest) {
  int lane = row_lane();
  scratch += get_local_id(0) - lane;
  scratch[lane] = value;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int step = ROW_ITEMS / 2; step > 0; step /= 2) {
    if (lane < step) {
      float other = scratch[lane + step];
      scratch[lane] = greatest ? (other > scratch[lane] ? other : scratch[lane]) : scratch[lane] + other;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  value = scratch[0];
  // Before anyone writes again.
  barrier(CLK_LOCAL_MEM_FENCE);
  return value;
}

#endif
