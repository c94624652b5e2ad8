// Strided copies, transpositions and fills. Each kernel comes three times: between elements, whose bits it moves (32 bits of
// anything, or 16 in the shorter formats); from float32 (a graph's inputs, constants) to elements; and from elements to float32
// (a graph's results).
//
//     y[offsetY + sum i_d stridesY[d]] = x[offsetX + sum i_d stridesX[d]]   for all i below dims
#include "gpu/element.h"

#ifndef VECTOR
#define VECTOR 1  // 4 or 8 needs innermost strides of 1, and innermost extent, other strides and offsets to be multiples of it
#endif
#ifndef GROUP
#define GROUP 256  // work-items of a group of `transpose`, a multiple of 32
#endif
#ifndef RANK
#define RANK 1  // known, so that the extents are no array that is indexed at run time
#endif

#if GRAFT_STORAGE == GRAFT_FLOAT32
typedef uint bits;
#define VECTOR_BITS uint4
#define BITS_A_MOVE 4
#else
typedef ushort bits;
#if VECTOR == 8
#define VECTOR_BITS uint4
#else
#define VECTOR_BITS uint2
#endif
#define BITS_A_MOVE VECTOR
#endif

static inline void move_bits(__global const bits *from, __global bits *to) {
#if VECTOR == 1
  *to = *from;
#else
#pragma unroll
  for (int e = 0; e < VECTOR; e += BITS_A_MOVE) *(__global VECTOR_BITS *)(to + e) = *(__global const VECTOR_BITS *)(from + e);
#endif
}

static inline void float_to_elements(__global const float *from, __global element *to) {
  float values[VECTOR];
  load_floats(from, values, VECTOR);
  store_elements(values, to, VECTOR);
}

static inline void elements_to_float(__global const element *from, __global float *to) {
  float values[VECTOR];
  load_elements(from, values, VECTOR);
  store_floats(values, to, VECTOR);
}

// Work-items: VECTOR neighbours of the innermost dimension.
#define COPY(name, SOURCE, TARGET, MOVE)                                                                     \
  __kernel void name(__global const SOURCE *restrict x, __global TARGET *restrict y, const GraftCopyParams p) { \
    const int last = RANK - 1;                                                                               \
    uint vectors = (uint)p.dims[last] / VECTOR, rest = (uint)get_global_id(0), count = vectors;              \
    _Pragma("unroll") for (int d = 0; d < last; ++d) count *= (uint)p.dims[d];                               \
    if (rest >= count) return;                                                                               \
    uint above = rest / vectors;                                                                             \
    long inner = (long)((rest - above * vectors) * VECTOR);                                                  \
    long from = p.offsetX + inner * p.stridesX[last], to = p.offsetY + inner * p.stridesY[last];             \
    _Pragma("unroll") for (int d = last - 1; d >= 0; --d) {                                                  \
      uint next = above / (uint)p.dims[d], at = above - next * (uint)p.dims[d];                              \
      above = next;                                                                                          \
      from += (long)at * p.stridesX[d];                                                                      \
      to += (long)at * p.stridesY[d];                                                                        \
    }                                                                                                        \
    MOVE(x + from, y + to);                                                                                  \
  }
COPY(copy, bits, bits, move_bits)
COPY(copy_from_float, float, element, float_to_elements)
COPY(copy_to_float, element, float, elements_to_float)

#define SAME(x) (x)

// dims = [b, i, j], x contiguous along j (stridesX[2] = 1), y along i (stridesY[1] = 1): blocks of 32 × 32 by way of local
// memory, so that both sides move whole lines. Rows of the block are 33 apart: a column then lies in 32 different banks.
// Work-groups: 32 × LINES work-items as one dimension; index = (b blocks of i + …) blocks of j + ….
#define BLOCK 32
#define LINES (GROUP / BLOCK)
#define TRANSPOSE(name, SOURCE, TARGET, BETWEEN, LOAD, STORE)                                                          \
  __kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void name(                                               \
      __global const SOURCE *restrict x, __global TARGET *restrict y, const GraftCopyParams p) {                       \
    __local BETWEEN block[BLOCK * (BLOCK + 1)];                                                                        \
    uint across = ((uint)p.dims[2] + BLOCK - 1) / BLOCK, down = ((uint)p.dims[1] + BLOCK - 1) / BLOCK;                 \
    uint line = get_group_id(0) / across, matrix = line / down;                                                        \
    int firstJ = (int)(get_group_id(0) - line * across) * BLOCK, firstI = (int)(line - matrix * down) * BLOCK;         \
    int column = get_local_id(0) % BLOCK, row = get_local_id(0) / BLOCK;                                               \
    x += p.offsetX + (long)matrix * p.stridesX[0];                                                                     \
    y += p.offsetY + (long)matrix * p.stridesY[0];                                                                     \
    for (int r = row; r < BLOCK; r += LINES) {                                                                         \
      int i = firstI + r, j = firstJ + column;                                                                         \
      if (i < p.dims[1] && j < p.dims[2]) block[r * (BLOCK + 1) + column] = LOAD(x[(long)i * p.stridesX[1] + j]);      \
    }                                                                                                                  \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                                      \
    for (int r = row; r < BLOCK; r += LINES) {                                                                         \
      int i = firstI + column, j = firstJ + r;                                                                         \
      if (i < p.dims[1] && j < p.dims[2]) y[(long)j * p.stridesY[2] + i] = (TARGET)STORE(block[column * (BLOCK + 1) + r]); \
    }                                                                                                                  \
  }
TRANSPOSE(transpose, bits, bits, uint, SAME, SAME)
TRANSPOSE(transpose_from_float, float, element, float, SAME, narrow)
TRANSPOSE(transpose_to_float, element, float, float, widen, SAME)

// Work-items: elements.
__kernel void fill_value(__global element *y, const GraftFillParams p) {
  if ((graft_long)get_global_id(0) < p.count) y[get_global_id(0)] = narrow(p.value);
}
