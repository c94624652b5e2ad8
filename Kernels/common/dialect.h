// One source, two compilers: OpenCL C, and C with clang's vector extensions for the native CPU family.
//
// A kernel of the CPU family is written
//
//     KERNEL3(scale_rows, GLOBAL const float *x, GLOBAL const float *s, GLOBAL float *y, GraftUnaryParams) {
//       int row = ITEM_X;  … p.channels …
//     }
//
// In OpenCL that is `__kernel void scale_rows(…, const GraftUnaryParams p)`, and ITEM_X is get_global_id(0); in C it is a function
// the thread pool calls once a work-item. Vectors are `floatv`, VW floats wide (16, 8 or 4), and unaligned loads
// and stores go through LOADV and STOREV. No kernel of this family has a barrier or local memory.
#ifndef GRAFT_DIALECT_H
#define GRAFT_DIALECT_H

#if defined(__OPENCL_VERSION__) || defined(__OPENCL_C_VERSION__)

#define GRAFT_OPENCL 1
#define GLOBAL __global
// Always: a driver that leaves calls in a tile keeps its sums in memory.
#define INLINE static inline __attribute__((always_inline))
#define OUTLINE static __attribute__((noinline))
#define ITEM_X item_x
#define ITEM_Y item_y
#define ITEM_Z item_z
// The body is a function that the kernel calls once a work-item: PoCL compiles a kernel three times over, and a function once, which
// halves the time to the first result.
#define GRAFT_JOIN_(a, b) a##b
#define GRAFT_JOIN(a, b) GRAFT_JOIN_(a, b)
#define GRAFT_ITEM const int item_x, const int item_y, const int item_z
#define GRAFT_BUFFER __global void *
#define GRAFT_BODY(name, ...) OUTLINE void GRAFT_JOIN(name, _body)(__VA_ARGS__, GRAFT_ITEM)
#define GRAFT_CALL(name, ...) \
  { GRAFT_JOIN(name, _body)(__VA_ARGS__, p, (int)get_global_id(0), (int)get_global_id(1), (int)get_global_id(2)); }
#define KERNEL1(name, a0, P) \
  GRAFT_BODY(name, a0, const P p); \
  __kernel void name(GRAFT_BUFFER b0, const P p) GRAFT_CALL(name, b0) \
  GRAFT_BODY(name, a0, const P p)
#define KERNEL2(name, a0, a1, P) \
  GRAFT_BODY(name, a0, a1, const P p); \
  __kernel void name(GRAFT_BUFFER b0, GRAFT_BUFFER b1, const P p) GRAFT_CALL(name, b0, b1) \
  GRAFT_BODY(name, a0, a1, const P p)
#define KERNEL3(name, a0, a1, a2, P) \
  GRAFT_BODY(name, a0, a1, a2, const P p); \
  __kernel void name(GRAFT_BUFFER b0, GRAFT_BUFFER b1, GRAFT_BUFFER b2, const P p) GRAFT_CALL(name, b0, b1, b2) \
  GRAFT_BODY(name, a0, a1, a2, const P p)
#define KERNEL4(name, a0, a1, a2, a3, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, const P p); \
  __kernel void name(GRAFT_BUFFER b0, GRAFT_BUFFER b1, GRAFT_BUFFER b2, GRAFT_BUFFER b3, const P p) GRAFT_CALL(name, b0, b1, b2, b3) \
  GRAFT_BODY(name, a0, a1, a2, a3, const P p)
#define KERNEL5(name, a0, a1, a2, a3, a4, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, const P p); \
  __kernel void name(GRAFT_BUFFER b0, GRAFT_BUFFER b1, GRAFT_BUFFER b2, GRAFT_BUFFER b3, GRAFT_BUFFER b4, const P p) \
  GRAFT_CALL(name, b0, b1, b2, b3, b4) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, const P p)
#define KERNEL6(name, a0, a1, a2, a3, a4, a5, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, const P p); \
  __kernel void name(GRAFT_BUFFER b0, GRAFT_BUFFER b1, GRAFT_BUFFER b2, GRAFT_BUFFER b3, GRAFT_BUFFER b4, GRAFT_BUFFER b5, const P p) \
  GRAFT_CALL(name, b0, b1, b2, b3, b4, b5) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, const P p)
#define KERNEL7(name, a0, a1, a2, a3, a4, a5, a6, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, const P p); \
  __kernel void name( \
      GRAFT_BUFFER b0, GRAFT_BUFFER b1, GRAFT_BUFFER b2, GRAFT_BUFFER b3, \
      GRAFT_BUFFER b4, GRAFT_BUFFER b5, GRAFT_BUFFER b6, const P p) \
  GRAFT_CALL(name, b0, b1, b2, b3, b4, b5, b6) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, const P p)
#define KERNEL8(name, a0, a1, a2, a3, a4, a5, a6, a7, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, a7, const P p); \
  __kernel void name( \
      GRAFT_BUFFER b0, GRAFT_BUFFER b1, GRAFT_BUFFER b2, GRAFT_BUFFER b3, \
      GRAFT_BUFFER b4, GRAFT_BUFFER b5, GRAFT_BUFFER b6, GRAFT_BUFFER b7, const P p) \
  GRAFT_CALL(name, b0, b1, b2, b3, b4, b5, b6, b7) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, a7, const P p)
#define KERNEL10(name, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, const P p); \
  __kernel void name( \
      GRAFT_BUFFER b0, GRAFT_BUFFER b1, GRAFT_BUFFER b2, GRAFT_BUFFER b3, GRAFT_BUFFER b4, \
      GRAFT_BUFFER b5, GRAFT_BUFFER b6, GRAFT_BUFFER b7, GRAFT_BUFFER b8, GRAFT_BUFFER b9, const P p) \
  GRAFT_CALL(name, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, const P p)

#define floatv GRAFT_JOIN(float, VW)
#define intv GRAFT_JOIN(int, VW)
#define LOADV(pointer) GRAFT_JOIN(vload, VW)(0, pointer)
#define STOREV(value, pointer) GRAFT_JOIN(vstore, VW)(value, 0, pointer)
#define LOADV_PRIVATE(pointer) GRAFT_JOIN(vload, VW)(0, pointer)
#define STOREV_PRIVATE(value, pointer) GRAFT_JOIN(vstore, VW)(value, 0, pointer)
#define SPLAT(x) ((floatv)(x))
#define FMAV(a, b, c) fma(a, b, c)
#define MAXV(a, b) fmax(a, b)
#define MINV(a, b) fmin(a, b)
#define ROUNDV(x) rint(x)
#define SQRTV(x) sqrt(x)
#define ABSV(x) fabs(x)
#define FLOATV_BITS(x) GRAFT_JOIN(as_int, VW)(x)
#define BITS_FLOATV(x) GRAFT_JOIN(as_float, VW)(x)
#define TO_INTV(x) GRAFT_JOIN(convert_int, VW)(x)
#define TO_FLOATV(x) GRAFT_JOIN(convert_float, VW)(x)
#define SELECTV(no, yes, mask) select(no, yes, mask)
#define INTV(...) ((intv)(__VA_ARGS__))
#define PREFETCH(pointer) prefetch(pointer, VW)

#else

#include <stddef.h>
#include <stdint.h>

#define GLOBAL
#define INLINE static inline __attribute__((always_inline))
#define OUTLINE static __attribute__((noinline))
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef float floatv __attribute__((ext_vector_type(VW)));
typedef int intv __attribute__((ext_vector_type(VW)));
typedef floatv floatv_unaligned __attribute__((aligned(4)));
#define ITEM_X item_x
#define ITEM_Y item_y
#define ITEM_Z item_z
#define GRAFT_JOIN_(a, b) a##b
#define GRAFT_JOIN(a, b) GRAFT_JOIN_(a, b)
// GRAFT_ISA_PREFIX names the instruction set this file is being compiled for.
#define GRAFT_NATIVE(name) GRAFT_JOIN(GRAFT_ISA_PREFIX, name)
#define GRAFT_ITEM const int item_x, const int item_y, const int item_z
#define GRAFT_ENTRY(name, P, ...)                                                                                     \
  void GRAFT_NATIVE(name)(void *const *b, const void *parameters, GRAFT_ITEM);                                      \
  void GRAFT_NATIVE(name)(void *const *b, const void *parameters, GRAFT_ITEM) {                                     \
    (void)b;                                                                                                        \
    GRAFT_JOIN(name, _body)(__VA_ARGS__, *(const P *)parameters, item_x, item_y, item_z);                           \
  }
#define GRAFT_BODY(name, ...) static inline __attribute__((always_inline)) void GRAFT_JOIN(name, _body)(__VA_ARGS__, GRAFT_ITEM)
#define KERNEL1(name, a0, P) GRAFT_BODY(name, a0, const P p); GRAFT_ENTRY(name, P, b[0]) GRAFT_BODY(name, a0, const P p)
#define KERNEL2(name, a0, a1, P) GRAFT_BODY(name, a0, a1, const P p); GRAFT_ENTRY(name, P, b[0], b[1]) GRAFT_BODY(name, a0, a1, const P p)
#define KERNEL3(name, a0, a1, a2, P) \
  GRAFT_BODY(name, a0, a1, a2, const P p); GRAFT_ENTRY(name, P, b[0], b[1], b[2]) GRAFT_BODY(name, a0, a1, a2, const P p)
#define KERNEL4(name, a0, a1, a2, a3, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, const P p); GRAFT_ENTRY(name, P, b[0], b[1], b[2], b[3]) GRAFT_BODY(name, a0, a1, a2, a3, const P p)
#define KERNEL5(name, a0, a1, a2, a3, a4, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, const P p); \
  GRAFT_ENTRY(name, P, b[0], b[1], b[2], b[3], b[4]) GRAFT_BODY(name, a0, a1, a2, a3, a4, const P p)
#define KERNEL6(name, a0, a1, a2, a3, a4, a5, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, const P p); \
  GRAFT_ENTRY(name, P, b[0], b[1], b[2], b[3], b[4], b[5]) GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, const P p)
#define KERNEL7(name, a0, a1, a2, a3, a4, a5, a6, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, const P p); \
  GRAFT_ENTRY(name, P, b[0], b[1], b[2], b[3], b[4], b[5], b[6]) GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, const P p)
#define KERNEL8(name, a0, a1, a2, a3, a4, a5, a6, a7, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, a7, const P p); \
  GRAFT_ENTRY(name, P, b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]) GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, a7, const P p)
#define KERNEL10(name, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, P) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, const P p); \
  GRAFT_ENTRY(name, P, b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9]) \
  GRAFT_BODY(name, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, const P p)

#define LOADV(pointer) (*(const floatv_unaligned *)(pointer))
#define STOREV(value, pointer) (*(floatv_unaligned *)(pointer) = (value))
#define LOADV_PRIVATE(pointer) LOADV(pointer)
#define STOREV_PRIVATE(value, pointer) STOREV(value, pointer)
#define SPLAT(x) ((floatv)(x))
// GRAFT_ROUNDS_PRODUCTS: no instruction multiplies and adds; a library's exact one would take a hundred times as long.
#ifdef GRAFT_ROUNDS_PRODUCTS
#define FMAV(a, b, c) ((a) * (b) + (c))
#define fma(a, b, c) ((a) * (b) + (c))
#else
#define FMAV(a, b, c) __builtin_elementwise_fma(a, b, c)
#define fma(a, b, c) __builtin_fmaf(a, b, c)
#endif
#define MAXV(a, b) __builtin_elementwise_max(a, b)
#define MINV(a, b) __builtin_elementwise_min(a, b)
#define ROUNDV(x) __builtin_elementwise_roundeven(x)
#define SQRTV(x) __builtin_elementwise_sqrt(x)
#define ABSV(x) __builtin_elementwise_abs(x)
#define FLOATV_BITS(x) ((intv)(x))
#define BITS_FLOATV(x) ((floatv)(x))
#define TO_INTV(x) __builtin_convertvector(x, intv)
#define TO_FLOATV(x) __builtin_convertvector(x, floatv)
#define SELECTV(no, yes, mask) ((mask) ? (yes) : (no))
#define INTV(...) ((intv){__VA_ARGS__})
#define PREFETCH(pointer) __builtin_prefetch(pointer)
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))

#endif
#endif
