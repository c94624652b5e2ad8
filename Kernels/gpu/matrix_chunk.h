// Chunks of 16 bytes between registers and rows of global memory that begin and end where they do (VECTOR_Y).
#ifndef GRAFT_GPU_MATRIX_CHUNK_H
#define GRAFT_GPU_MATRIX_CHUNK_H
#include "gpu/matrix_unit.h"

#if !PARTIAL

// A chunk of a row, 16 bytes, of which `count` elements lie inside.
static inline void load_chunk(__global const element *from, int count, uint *chunk) {
#if VECTOR_Y == CHUNK
  uint4 v = *(__global const uint4 *)from;
  chunk[0] = v.x, chunk[1] = v.y, chunk[2] = v.z, chunk[3] = v.w;
#elif ELEMENT_BYTES == 4
#pragma unroll
  for (int e = 0; e < 4; ++e) chunk[e] = e < count ? as_uint(from[e]) : 0;
#elif VECTOR_Y >= 2
#pragma unroll
  for (int e = 0; e < 4; ++e) chunk[e] = 2 * e < count ? *(__global const uint *)(from + 2 * e) : 0;
#else
#pragma unroll
  for (int e = 0; e < 4; ++e)
    chunk[e] = (2 * e < count ? (uint)from[2 * e] : 0) | (2 * e + 1 < count ? (uint)from[2 * e + 1] : 0) << 16;
#endif
}

static inline void store_chunk(const uint *chunk, __global element *to, int count) {
#if VECTOR_Y == CHUNK
  *(__global uint4 *)to = (uint4)(chunk[0], chunk[1], chunk[2], chunk[3]);
#elif ELEMENT_BYTES == 4
#pragma unroll
  for (int e = 0; e < 4; ++e)
    if (e < count) to[e] = as_float(chunk[e]);
#elif VECTOR_Y >= 2
#pragma unroll
  for (int e = 0; e < 4; ++e)
    if (2 * e < count) *(__global uint *)(to + 2 * e) = chunk[e];
#else
#pragma unroll
  for (int e = 0; e < 8; ++e)
    if (e < count) to[e] = (element)(chunk[e / 2] >> e % 2 * 16);
#endif
}

#endif
#endif
