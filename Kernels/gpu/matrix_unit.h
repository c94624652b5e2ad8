// What differs between matrix units: how a work-group's copies reach local memory, how a warp takes its fragments from there,
// and the multiply-add itself. Everything else is in matrix_tile.h.
//
//     MATRIX_UNIT 1   NVIDIA from sm_80 on, by inline PTX: cp.async, ldmatrix and mma.sync.m16n8k16, float16 and bfloat16
//
// A warp's sums are FRAGMENTS_M × FRAGMENTS_N fragments of 16 × 8, those of m16n8k16 (PTX ISA, "Matrix Fragments for
// mma.m16n8k16 with floating point type"), g = lane / 4, t = lane % 4:
//
//     A   register r: row g + 8 (r % 2), k = 2t + 8 (r / 2) and the one after it
//     B   register r: column g,          k = 2t + 8 r       and the one after it
//     D   register r: row g + 8 (r / 2), column 2t + r % 2
//
// ldmatrix takes four 8 × 8 matrices at once; lane l gives the address of row l % 8 of matrix l / 8, and gets of matrix r, as
// register r, row g's pair t, or, transposed, column g's.
//
// EMULATED 1 is the same kernel in plain OpenCL C, for checking without the hardware: addresses, swizzles, stages, tails and
// fragments are those of the unit; ldmatrix reads what the lanes' addresses say, and a multiplication exchanges the lanes'
// registers by way of local memory. Calls are in uniform control flow, so the barriers in between are met by all.
#ifndef GRAFT_GPU_MATRIX_UNIT_H
#define GRAFT_GPU_MATRIX_UNIT_H
#include "gpu/activation.h"

#ifndef MATRIX_UNIT
#define MATRIX_UNIT 1
#endif
#ifndef EMULATED
#define EMULATED 0
#endif
#if GRAFT_STORAGE == GRAFT_FLOAT32
#error "matrix units multiply numbers of 16 bits: set GRAFT_STORAGE"
#endif

#define LANES 32

// Loops that hold registers in arrays have to be unrolled; those that hold barriers must not be.
#if EMULATED
#define UNROLLED
#else
#define UNROLLED _Pragma("unroll")
#endif

// Barriers that only wait for local memory.
#define LOCAL_BARRIER barrier(CLK_LOCAL_MEM_FENCE)

#if EMULATED

// Copies `count` elements, at once.
static inline void copy_async(__local uchar *to, __global const element *from, bool inside, const int count) {
  for (int e = 0; e < count; ++e) ((__local element *)to)[e] = inside ? from[e] : 0;
}
#define COPY_COMMIT
#define COPY_WAIT(pending)

static inline uint unit_narrow(float low, float high) { return narrow_pair(low, high); }
static inline void unit_widen(uint pair, float *to) { widen_pair(pair, to); }

#else

// NVIDIA's compiler calls it asm, clang __asm__.
#ifdef __NV_CL_C_VERSION
#define PTX asm volatile
#define PTX_PURE asm
#else
#define PTX __asm__ volatile
#define PTX_PURE __asm__
#endif

#if GRAFT_STORAGE == GRAFT_FLOAT16
#define PTX_TYPE "f16"
#else
#define PTX_TYPE "bf16"
#endif

// An address of local memory, as PTX's instructions for shared memory take it.
static inline uint shared_address(__local const void *pointer) { return (uint)(size_t)pointer; }

// Copies `count` elements (2, 4 or 8) behind the program's back, or zeros without reading anything.
static inline void copy_async(__local uchar *to, __global const element *from, bool inside, const int count) {
  uint address = shared_address(to), bytes = inside ? 2 * count : 0;
  if (count == 8) {
    PTX("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"((ulong)from), "r"(bytes) : "memory");
  } else if (count == 4) {
    PTX("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(address), "l"((ulong)from), "r"(bytes) : "memory");
  } else {
    PTX("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"((ulong)from), "r"(bytes) : "memory");
  }
}
#define COPY_COMMIT PTX("cp.async.commit_group;" ::: "memory");
#define COPY_WAIT(pending) PTX("cp.async.wait_group %0;" ::"n"(pending) : "memory");

static inline void load_matrices(uint address, uint *to, const bool transposed) {
  if (transposed) {
    PTX("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
        : "r"(address)
        : "memory");
  } else {
    PTX("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
        : "r"(address)
        : "memory");
  }
}

static inline void multiply_fragment(float *d, const uint *a, const uint *b) {
  PTX_PURE("mma.sync.aligned.m16n8k16.row.col.f32." PTX_TYPE "." PTX_TYPE ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
           : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
           : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static inline uint unit_narrow(float low, float high) {
  uint pair;
  PTX_PURE("cvt.rn." PTX_TYPE "x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

static inline void unit_widen(uint pair, float *to) {
#if GRAFT_STORAGE == GRAFT_FLOAT16
  PTX_PURE("{ .reg .b16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
           : "=f"(to[0]), "=f"(to[1])
           : "r"(pair));
#else
  to[0] = as_float(pair << 16);
  to[1] = as_float(pair & 0xFFFF0000);
#endif
}

#endif
#endif
