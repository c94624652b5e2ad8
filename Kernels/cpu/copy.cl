// Strided copies and fills. Work-items of `copy`: x blocks of COPY_ROWS rows of the innermost dimension.
//
//     y[offsetY + sum i_d stridesY[d]] = x[offsetX + sum i_d stridesX[d]]   for all i below dims
//
// The planner puts a dimension that is contiguous in both last, if there is one; a transposition of the last two is walked
// in blocks of 16 by 16 so that both sides use whole cache lines. Each kernel comes three times: between elements, whose bits
// it moves; from float32 (a graph's inputs, constants) to elements; and from elements to float32 (a graph's results).
#include "cpu/math.h"

INLINE void float_to_elements(GLOBAL const float *from, GLOBAL element *to, int count) { store_part(float_part(from, count), to, count); }
INLINE void elements_to_float(GLOBAL const element *from, GLOBAL float *to, int count) { store_float_part(load_part(from, count), to, count); }
INLINE void move_one(GLOBAL const element *from, GLOBAL element *to) { *to = *from; }
INLINE void float_to_element(GLOBAL const float *from, GLOBAL element *to) { element_put(*from, to); }
INLINE void element_to_float(GLOBAL const element *from, GLOBAL float *to) { *to = element_at(from); }

#define COPY_ROWS 16
#define COPY(name, SOURCE, TARGET, MOVE_PART, MOVE_ONE)                                                                   \
  KERNEL2(name, GLOBAL const SOURCE *x, GLOBAL TARGET *y, GraftCopyParams) {                                              \
    int last = p.rank - 1, length = p.dims[last];                                                                         \
    int rows = 1;                                                                                                         \
    for (int d = 0; d < last; ++d) rows *= p.dims[d];                                                                     \
    int stepX = p.stridesX[last], stepY = p.stridesY[last];                                                               \
    for (int row = ITEM_X * COPY_ROWS; row < rows && row < (ITEM_X + 1) * COPY_ROWS; ++row) {                             \
      graft_long from = p.offsetX, to = p.offsetY;                                                                        \
      int rest = row;                                                                                                     \
      for (int d = last - 1; d >= 0; --d) {                                                                               \
        int index = rest % p.dims[d];                                                                                     \
        rest /= p.dims[d];                                                                                                \
        from += (graft_long)index * p.stridesX[d];                                                                        \
        to += (graft_long)index * p.stridesY[d];                                                                          \
      }                                                                                                                   \
      if (stepX == 1 && stepY == 1) {                                                                                     \
        for (int i = 0; i < length; i += VW) MOVE_PART(x + from + i, y + to + i, min(VW, length - i));                    \
      } else {                                                                                                            \
        for (int i = 0; i < length; ++i) MOVE_ONE(x + from + (graft_long)i * stepX, y + to + (graft_long)i * stepY);      \
      }                                                                                                                   \
    }                                                                                                                     \
  }
COPY(copy, element, element, move_part, move_one)
COPY(copy_from_float, float, element, float_to_elements, float_to_element)
COPY(copy_to_float, element, float, elements_to_float, element_to_float)

// The first `count` (up to VW) of a row, in the target's format, to memory of the work-item's own.
INLINE void take_elements(GLOBAL const element *from, element *to, int count) {
  if (count == VW) {
    MOVEE_PRIVATE(from, to);
    return;
  }
  for (int i = 0; i < count; ++i) to[i] = from[i];
}
INLINE void take_narrowed(GLOBAL const float *from, element *to, int count) { STOREE_PRIVATE(float_part(from, count), to); }
INLINE void take_widened(GLOBAL const element *from, float *to, int count) { STOREV_PRIVATE(load_part(from, count), to); }

// y[b, j, i] = x[b, i, j]: dims = [b, i, j], x contiguous along j, y along i. Work-items: x blocks of TRANSPOSE_COLUMNS j, y blocks
// of 16 i, z matrices.
#define TRANSPOSE_BLOCK 16
#define TRANSPOSE_COLUMNS 512
// A block that is `count` columns of `rows` values; few rows (a picture's channels) are known to the compiler.
#define TRANSPOSE_STORE(ROWS)                                                                                             \
  for (int j = 0; j < count; ++j, at += p.stridesY[2])                                                                    \
    for (int i = 0; i < ROWS; ++i) at[i] = block[i * TRANSPOSE_BLOCK + j];
#define TRANSPOSE(name, SOURCE, TARGET, TAKE)                                                                             \
  KERNEL2(name, GLOBAL const SOURCE *x, GLOBAL TARGET *y, GraftCopyParams) {                                              \
    int first = ITEM_Y * TRANSPOSE_BLOCK, rows = min(TRANSPOSE_BLOCK, p.dims[1] - first);                                 \
    int column = ITEM_X * TRANSPOSE_COLUMNS, columns = min(column + TRANSPOSE_COLUMNS, p.dims[2]);                        \
    GLOBAL const SOURCE *from = x + p.offsetX + (graft_long)ITEM_Z * p.stridesX[0] + (graft_long)first * p.stridesX[1];   \
    GLOBAL TARGET *to = y + p.offsetY + (graft_long)ITEM_Z * p.stridesY[0] + first;                                       \
    for (int j0 = column; j0 < columns; j0 += TRANSPOSE_BLOCK) {                                                          \
      TARGET block[TRANSPOSE_BLOCK * TRANSPOSE_BLOCK];                                                                    \
      int count = min(TRANSPOSE_BLOCK, columns - j0);                                                                     \
      for (int i = 0; i < rows; ++i)                                                                                      \
        for (int j = 0; j < count; j += VW)                                                                               \
          TAKE(from + (graft_long)i * p.stridesX[1] + j0 + j, block + i * TRANSPOSE_BLOCK + j, min(VW, count - j));       \
      GLOBAL TARGET *at = to + (graft_long)j0 * p.stridesY[2];                                                            \
      switch (rows) {                                                                                                     \
      case 3: TRANSPOSE_STORE(3) break;                                                                                   \
      case 16: TRANSPOSE_STORE(16) break;                                                                                 \
      default: TRANSPOSE_STORE(rows) break;                                                                               \
      }                                                                                                                   \
    }                                                                                                                     \
  }
TRANSPOSE(transpose, element, element, take_elements)
TRANSPOSE(transpose_from_float, float, element, take_narrowed)
TRANSPOSE(transpose_to_float, element, float, take_widened)

// Work-items: x blocks of FILL_BLOCK elements.
#define FILL_BLOCK 16384
KERNEL1(fill_value, GLOBAL element *y, GraftFillParams) {
  graft_long first = (graft_long)ITEM_X * FILL_BLOCK, end = min(first + FILL_BLOCK, p.count);
  for (graft_long i = first; i < end; i += VW) store_part(SPLAT(p.value), y + i, (int)min((graft_long)VW, end - i));
}
