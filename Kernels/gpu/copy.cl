// Strided copies, transpositions and fills. Elements are 32 bits of anything: they are moved as they are.
//
//     y[offsetY + sum i_d stridesY[d]] = x[offsetX + sum i_d stridesX[d]]   for all i below dims
#include "common/params.h"

#ifndef VECTOR
#define VECTOR 1  // 4 needs innermost strides of 1, and innermost extent, other strides and offsets to be multiples of 4
#endif
#ifndef GROUP
#define GROUP 256  // work-items of a group of `transpose`, a multiple of 32
#endif
#ifndef RANK
#define RANK 1  // known, so that the extents are no array that is indexed at run time
#endif

// Work-items: VECTOR neighbours of the innermost dimension.
__kernel void copy(__global const uint *restrict x, __global uint *restrict y, const GraftCopyParams p) {
  const int last = RANK - 1;
  uint vectors = (uint)p.dims[last] / VECTOR, rest = (uint)get_global_id(0), count = vectors;
#pragma unroll
  for (int d = 0; d < last; ++d) count *= (uint)p.dims[d];
  if (rest >= count) return;
  uint above = rest / vectors;
  long inner = (long)((rest - above * vectors) * VECTOR);
  long from = p.offsetX + inner * p.stridesX[last], to = p.offsetY + inner * p.stridesY[last];
#pragma unroll
  for (int d = last - 1; d >= 0; --d) {
    uint next = above / (uint)p.dims[d], at = above - next * (uint)p.dims[d];
    above = next;
    from += (long)at * p.stridesX[d];
    to += (long)at * p.stridesY[d];
  }
#if VECTOR == 4
  *(__global uint4 *)(y + to) = *(__global const uint4 *)(x + from);
#else
  y[to] = x[from];
#endif
}

// dims = [b, i, j], x contiguous along j (stridesX[2] = 1), y along i (stridesY[1] = 1): blocks of 32 × 32 by way of local
// memory, so that both sides move whole lines. Rows of the block are 33 apart: a column then lies in 32 different banks.
// Work-groups: 32 × LINES work-items as one dimension; index = (b blocks of i + …) blocks of j + ….
#define BLOCK 32
#define LINES (GROUP / BLOCK)
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void transpose(
    __global const uint *restrict x, __global uint *restrict y, const GraftCopyParams p) {
  __local uint block[BLOCK * (BLOCK + 1)];
  uint across = ((uint)p.dims[2] + BLOCK - 1) / BLOCK, down = ((uint)p.dims[1] + BLOCK - 1) / BLOCK;
  uint line = get_group_id(0) / across, matrix = line / down;
  int firstJ = (int)(get_group_id(0) - line * across) * BLOCK, firstI = (int)(line - matrix * down) * BLOCK;
  int column = get_local_id(0) % BLOCK, row = get_local_id(0) / BLOCK;
  x += p.offsetX + (long)matrix * p.stridesX[0];
  y += p.offsetY + (long)matrix * p.stridesY[0];
  for (int r = row; r < BLOCK; r += LINES) {
    int i = firstI + r, j = firstJ + column;
    if (i < p.dims[1] && j < p.dims[2]) block[r * (BLOCK + 1) + column] = x[(long)i * p.stridesX[1] + j];
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int r = row; r < BLOCK; r += LINES) {
    int i = firstI + column, j = firstJ + r;
    if (i < p.dims[1] && j < p.dims[2]) y[(long)j * p.stridesY[2] + i] = block[column * (BLOCK + 1) + r];
  }
}

// Work-items: elements.
__kernel void fill_value(__global float *y, const GraftFillParams p) {
  if ((graft_long)get_global_id(0) < p.count) y[get_global_id(0)] = p.value;
}
