// Strided copies and fills. Work-items of `copy`: x blocks of COPY_ROWS rows of the innermost dimension.
//
//     y[offsetY + sum i_d stridesY[d]] = x[offsetX + sum i_d stridesX[d]]   for all i below dims
//
// The planner puts a dimension that is contiguous in both last, if there is one; a transposition of the last two is walked
// in blocks of 8 by 8 so that both sides use whole cache lines.
#include "cpu/math.h"

#define COPY_ROWS 16
KERNEL2(copy, GLOBAL const float *x, GLOBAL float *y, GraftCopyParams) {
  int last = p.rank - 1, length = p.dims[last];
  int rows = 1;
  for (int d = 0; d < last; ++d) rows *= p.dims[d];
  int stepX = p.stridesX[last], stepY = p.stridesY[last];
  for (int row = ITEM_X * COPY_ROWS; row < rows && row < (ITEM_X + 1) * COPY_ROWS; ++row) {
    graft_long from = p.offsetX, to = p.offsetY;
    int rest = row;
    for (int d = last - 1; d >= 0; --d) {
      int index = rest % p.dims[d];
      rest /= p.dims[d];
      from += (graft_long)index * p.stridesX[d];
      to += (graft_long)index * p.stridesY[d];
    }
    if (stepX == 1 && stepY == 1) {
      for (int i = 0; i < length; i += VW) store_part(load_part(x + from + i, min(VW, length - i)), y + to + i, min(VW, length - i));
    } else {
      for (int i = 0; i < length; ++i) y[to + (graft_long)i * stepY] = x[from + (graft_long)i * stepX];
    }
  }
}

// y[b, j, i] = x[b, i, j]: dims = [b, i, j]. Work-items: x blocks of 16 i, y matrices.
#define TRANSPOSE_BLOCK 16
KERNEL2(transpose, GLOBAL const float *x, GLOBAL float *y, GraftCopyParams) {
  int rows = p.dims[1], columns = p.dims[2];
  int first = ITEM_X * TRANSPOSE_BLOCK, end = min(first + TRANSPOSE_BLOCK, rows);
  GLOBAL const float *from = x + p.offsetX + (graft_long)ITEM_Y * p.stridesX[0];
  GLOBAL float *to = y + p.offsetY + (graft_long)ITEM_Y * p.stridesY[0];
  for (int j0 = 0; j0 < columns; j0 += TRANSPOSE_BLOCK)
    for (int j = j0; j < columns && j < j0 + TRANSPOSE_BLOCK; ++j)
      for (int i = first; i < end; ++i) to[(size_t)j * p.stridesY[2] + (size_t)i * p.stridesY[1]] = from[(size_t)i * p.stridesX[1] + (size_t)j * p.stridesX[2]];
}

// Work-items: x blocks of FILL_BLOCK elements.
#define FILL_BLOCK 16384
KERNEL1(fill_value, GLOBAL float *y, GraftFillParams) {
  graft_long first = (graft_long)ITEM_X * FILL_BLOCK, end = min(first + FILL_BLOCK, p.count);
  for (graft_long i = first; i < end; i += VW) store_part(SPLAT(p.value), y + i, (int)min((graft_long)VW, end - i));
}
