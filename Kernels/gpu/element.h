// The format in which values lie in memory: `element`. GRAFT_STORAGE chooses it when a program is compiled; arithmetic is
// float32 whatever it is, and so are parameters (biases, scales, shifts, depthwise weights) and partial sums.
//
//     GRAFT_FLOAT32   element is float
//     GRAFT_BFLOAT16  the upper half of a float32: widened by a shift, narrowed by rounding to nearest even
//     GRAFT_FLOAT16   IEEE binary16, by vload_half and vstore_half, which are core OpenCL: drivers without cl_khr_fp16 have
//                     them too, and none needs a type `half` that can be computed with
//
// A work-item of a memory-bound kernel moves a vector: 16 bytes where alignment allows, which is 4 floats or 8 shorter numbers.
#ifndef GRAFT_GPU_ELEMENT_H
#define GRAFT_GPU_ELEMENT_H
#include "common/params.h"

#ifndef GRAFT_STORAGE
#define GRAFT_STORAGE GRAFT_FLOAT32
#endif

// `vector` neighbouring floats, 1, 4 or 8 of them: parameters and partial sums.
static inline __attribute__((always_inline)) void load_floats(__global const float *from, float *to, const int vector) {
  if (vector == 1) {
    to[0] = *from;
  } else {
#pragma unroll
    for (int e = 0; e < vector; e += 4) {
      float4 v = *(__global const float4 *)(from + e);
      to[e] = v.x, to[e + 1] = v.y, to[e + 2] = v.z, to[e + 3] = v.w;
    }
  }
}

static inline __attribute__((always_inline)) void store_floats(const float *from, __global float *to, const int vector) {
  if (vector == 1) {
    to[0] = from[0];
  } else {
#pragma unroll
    for (int e = 0; e < vector; e += 4) *(__global float4 *)(to + e) = (float4)(from[e], from[e + 1], from[e + 2], from[e + 3]);
  }
}

#if GRAFT_STORAGE == GRAFT_FLOAT32

typedef float element;
static inline float widen(element x) { return x; }
static inline element narrow(float x) { return x; }
#define load_elements load_floats
#define store_elements store_floats

#else

typedef ushort element;

#if GRAFT_STORAGE == GRAFT_BFLOAT16
static inline float widen(element x) { return as_float((uint)x << 16); }
static inline element narrow(float x) {
  uint bits = as_uint(x), rounded = bits + 0x7FFF + ((bits >> 16) & 1);
  // A NaN stays one: rounding may not carry it into another number.
  return (element)((x != x ? bits | 0x400000 : rounded) >> 16);
}
#else
// By way of a variable, so that memory is read in whole vectors.
static inline float widen(element x) { return vload_half(0, (const half *)&x); }
static inline element narrow(float x) {
  element bits;
  vstore_half_rte(x, 0, (half *)&bits);
  return bits;
}
#endif

// Two neighbours as one number: what lies first in memory is its lower half.
static inline void widen_pair(uint pair, float *to) {
  to[0] = widen((element)(pair & 0xFFFF));
  to[1] = widen((element)(pair >> 16));
}
static inline uint narrow_pair(float low, float high) { return (uint)narrow(low) | (uint)narrow(high) << 16; }

// `vector` neighbouring elements as floats: 1, 2, 4 or 8 of them, 16 bytes at the most.
static inline __attribute__((always_inline)) void load_elements(__global const element *from, float *to, const int vector) {
  if (vector == 8) {
    uint4 v = *(__global const uint4 *)from;
    widen_pair(v.x, to);
    widen_pair(v.y, to + 2);
    widen_pair(v.z, to + 4);
    widen_pair(v.w, to + 6);
  } else if (vector == 4) {
    uint2 v = *(__global const uint2 *)from;
    widen_pair(v.x, to);
    widen_pair(v.y, to + 2);
  } else if (vector == 2) {
    widen_pair(*(__global const uint *)from, to);
  } else {
    to[0] = widen(*from);
  }
}

static inline __attribute__((always_inline)) void store_elements(const float *from, __global element *to, const int vector) {
  if (vector == 8) {
    *(__global uint4 *)to =
        (uint4)(narrow_pair(from[0], from[1]), narrow_pair(from[2], from[3]), narrow_pair(from[4], from[5]), narrow_pair(from[6], from[7]));
  } else if (vector == 4) {
    *(__global uint2 *)to = (uint2)(narrow_pair(from[0], from[1]), narrow_pair(from[2], from[3]));
  } else if (vector == 2) {
    *(__global uint *)to = narrow_pair(from[0], from[1]);
  } else {
    to[0] = narrow(from[0]);
  }
}

#endif

// Where sums go: partial sums of a split stay float32 (PARTIAL), results are elements.
#ifndef PARTIAL
#define PARTIAL 0
#endif
#if PARTIAL
typedef float sum_element;
#define store_sums store_floats
#else
typedef element sum_element;
#define store_sums store_elements
#endif

#endif
