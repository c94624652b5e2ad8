// Strided copies and fills. Work-items of `copy`: x blocks of COPY_ROWS rows of the innermost dimension.
//
//     y[offsetY + sum i_d stridesY[d]] = x[offsetX + sum i_d stridesX[d]]   for all i below dims
//
// The planner puts a dimension that is contiguous in both last, if there is one; a transposition of the last two is walked
// in squares so that both sides use whole cache lines. Each kernel comes three times: between elements, whose bits
// it moves; from float32 (a graph's inputs, constants) to elements; and from elements to float32 (a graph's results).
#include "cpu/math.h"
#include "cpu/square.h"

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

// y[b, j, i] = x[b, i, j]: dims = [b, i, j], x contiguous along j, y along i. Work-items: x blocks of TRANSPOSE_COLUMNS j, y blocks
// of TRANSPOSE_ROWS i, z matrices.
//
// Squares of VW by VW are transposed in registers, in bands of VW columns down all the rows of a block: what is written lies in
// runs of TRANSPOSE_ROWS, and the columns of the next band are asked for while this one is moved.
#define TRANSPOSE_ROWS 64
#define TRANSPOSE_COLUMNS 256

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

#define TAKE_ELEMENTS(from, count) load_bits_part(from, count)
#define PUT_ELEMENTS(value, to, count) store_bits_part(value, to, count)
#define TAKE_FLOATS(from, count) float_part(from, count)
#define PUT_FLOATS(value, to, count) store_float_part(value, to, count)
#define TAKE_WIDENED(from, count) load_part(from, count)
#define PUT_NARROWED(value, to, count) store_part(value, to, count)

// Few rows (the channels of a picture, on its way in), a vector of columns at a time by way of memory of the work-item's own: in
// the target's format there, and their number known to the compiler where it is 3.
#define TRANSPOSE_THIN 4
#define THIN_ROWS(TARGET, PUT_PRIVATE)                                                                                    \
  for (int j = 0; j < columns; j += VW) {                                                                                 \
    TARGET block[TRANSPOSE_THIN * VW];                                                                                    \
    int across = min(VW, columns - j);                                                                                    \
    for (int i = 0; i < rows; ++i) PUT_PRIVATE(from + (graft_long)i * stepX + j, block + i * VW, across);                 \
    if (rows == 3 && across == VW) {                                                                                      \
      _Pragma("unroll") for (int c = 0; c < VW; ++c) {                                                                    \
        _Pragma("unroll") for (int i = 0; i < 3; ++i) to[(graft_long)(j + c) * stepY + i] = block[i * VW + c];            \
      }                                                                                                                   \
    } else {                                                                                                              \
      for (int c = 0; c < across; ++c)                                                                                    \
        for (int i = 0; i < rows; ++i) to[(graft_long)(j + c) * stepY + i] = block[i * VW + c];                           \
    }                                                                                                                     \
  }

#define TRANSPOSE(name, SOURCE, TARGET, VECTOR, SQUARE, TAKE, PUT, PUT_PRIVATE)                                           \
  KERNEL2(name, GLOBAL const SOURCE *x, GLOBAL TARGET *y, GraftCopyParams) {                                              \
    int first = ITEM_Y * TRANSPOSE_ROWS, rows = min(TRANSPOSE_ROWS, p.dims[1] - first);                                   \
    int column = ITEM_X * TRANSPOSE_COLUMNS, columns = min(TRANSPOSE_COLUMNS, p.dims[2] - column);                        \
    int stepX = p.stridesX[1], stepY = p.stridesY[2];                                                                     \
    GLOBAL const SOURCE *from = x + p.offsetX + (graft_long)ITEM_Z * p.stridesX[0] + (graft_long)first * stepX + column;  \
    GLOBAL TARGET *to = y + p.offsetY + (graft_long)ITEM_Z * p.stridesY[0] + first + (graft_long)column * stepY;          \
    if (rows <= TRANSPOSE_THIN) {                                                                                         \
      THIN_ROWS(TARGET, PUT_PRIVATE)                                                                                      \
      return;                                                                                                             \
    }                                                                                                                     \
    for (int j = 0; j < columns; j += VW)                                                                                 \
      for (int i = 0; i < rows; i += VW) {                                                                                \
        VECTOR square[VW];                                                                                                \
        int across = min(VW, columns - j), down = min(VW, rows - i);                                                      \
        GLOBAL const SOURCE *line = from + (graft_long)i * stepX + j;                                                     \
        GLOBAL TARGET *at = to + (graft_long)j * stepY + i;                                                               \
        if (across == VW && down == VW) {                                                                                 \
          _Pragma("unroll") for (int r = 0; r < VW; ++r) {                                                                \
            square[r] = TAKE(line + (graft_long)r * stepX, VW);                                                           \
            PREFETCH(line + (graft_long)r * stepX + TRANSPOSE_AHEAD);                                                     \
          }                                                                                                               \
          SQUARE(square);                                                                                                 \
          _Pragma("unroll") for (int r = 0; r < VW; ++r) PUT(square[r], at + (graft_long)r * stepY, VW);                  \
        } else {                                                                                                          \
          _Pragma("unroll") for (int r = 0; r < VW; ++r) square[r] = TAKE(line + (graft_long)min(r, down - 1) * stepX, across); \
          SQUARE(square);                                                                                                 \
          _Pragma("unroll") for (int r = 0; r < VW; ++r)                                                                  \
            if (r < across) PUT(square[r], at + (graft_long)r * stepY, down);                                             \
        }                                                                                                                 \
      }                                                                                                                   \
  }
#ifndef TRANSPOSE_AHEAD
#define TRANSPOSE_AHEAD 32
#endif
#if GRAFT_STORAGE == GRAFT_FLOAT32
TRANSPOSE(transpose, element, element, floatv, transpose_square, TAKE_FLOATS, PUT_FLOATS, take_elements)
#else
TRANSPOSE(transpose, element, element, ushortv, transpose_bits_square, TAKE_ELEMENTS, PUT_ELEMENTS, take_elements)
#endif
TRANSPOSE(transpose_from_float, float, element, floatv, transpose_square, TAKE_FLOATS, PUT_NARROWED, take_narrowed)
TRANSPOSE(transpose_to_float, element, float, floatv, transpose_square, TAKE_WIDENED, PUT_FLOATS, take_widened)

// Work-items: x blocks of FILL_BLOCK elements.
#define FILL_BLOCK 16384
KERNEL1(fill_value, GLOBAL element *y, GraftFillParams) {
  graft_long first = (graft_long)ITEM_X * FILL_BLOCK, end = min(first + FILL_BLOCK, p.count);
  for (graft_long i = first; i < end; i += VW) store_part(SPLAT(p.value), y + i, (int)min((graft_long)VW, end - i));
}
