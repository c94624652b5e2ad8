// y[outer, inner] = mean, sum or maximum over length of x[outer, length, inner], rows of `inner` ldx apart.
//
// Where a sum takes two passes, what is between them is float32: the first has TO_FLOAT 1, the second FROM_FLOAT 1.
#include "gpu/rows.h"

#ifndef FROM_FLOAT
#define FROM_FLOAT 0
#endif
#ifndef TO_FLOAT
#define TO_FLOAT 0
#endif
#if FROM_FLOAT
typedef float reduce_source;
#define SOURCE(x) (x)
#else
typedef element reduce_source;
#define SOURCE(x) widen(x)
#endif
#if TO_FLOAT
typedef float reduce_target;
#define TARGET(x) (x)
#else
typedef element reduce_target;
#define TARGET(x) narrow(x)
#endif

static inline float reduce_pair(float a, float b, int operation) {
  return operation == GRAFT_REDUCE_MAXIMUM ? (b > a ? b : a) : a + b;
}

static inline float reduce_start(int operation) { return operation == GRAFT_REDUCE_MAXIMUM ? -INFINITY : 0.0f; }

// Rows without an inner dimension (inner = ldx = 1): ROW_ITEMS work-items a row. Work-groups: ROW_COUNT rows.
__kernel ROWS_GROUP void reduce_rows(
    __global const reduce_source *restrict x, __global reduce_target *restrict y, const GraftReduceParams p) {
  __local float scratch[ROW_SCRATCH];
  size_t row = row_index();
  int length = row < (size_t)p.outer ? p.length : 0;
  float value = reduce_start(p.operation);
  for (int i = row_lane(); i < length; i += ROW_ITEMS) value = reduce_pair(value, SOURCE(x[row * p.length + i]), p.operation);
  value = row_total(value, scratch, p.operation == GRAFT_REDUCE_MAXIMUM);
  if (length > 0 && row_lane() == 0) y[row * p.ldy] = TARGET(p.operation == GRAFT_REDUCE_MEAN ? value / p.length : value);
}

// Columns: COLUMNS neighbouring work-items have neighbouring columns and walk every SHARES-th row; the shares are added in
// order. Work-groups: COLUMNS × SHARES as one dimension; index = outer blocks + block of columns.
#define COLUMNS (ROW_SCRATCH < 32 ? ROW_SCRATCH : 32)
#define SHARES (ROW_SCRATCH / COLUMNS)
__kernel ROWS_GROUP void reduce_columns(
    __global const reduce_source *restrict x, __global reduce_target *restrict y, const GraftReduceParams p) {
  __local float scratch[COLUMNS * SHARES];
  uint blocks = ((uint)p.inner + COLUMNS - 1) / COLUMNS, outer = get_group_id(0) / blocks;
  int lane = get_local_id(0) % COLUMNS, share = get_local_id(0) / COLUMNS;
  int column = (int)(get_group_id(0) - (size_t)outer * blocks) * COLUMNS + lane;
  x += (size_t)outer * p.length * p.ldx + column;
  float value = reduce_start(p.operation);
  if (column < p.inner) {
    for (int i = share; i < p.length; i += SHARES) value = reduce_pair(value, SOURCE(x[(size_t)i * p.ldx]), p.operation);
  }
  scratch[get_local_id(0)] = value;
  barrier(CLK_LOCAL_MEM_FENCE);
  if (share == 0 && column < p.inner) {
    for (int s = 1; s < SHARES; ++s) value = reduce_pair(value, scratch[s * COLUMNS + lane], p.operation);
    y[(size_t)outer * p.ldy + column] = TARGET(p.operation == GRAFT_REDUCE_MEAN ? value / p.length : value);
  }
}
