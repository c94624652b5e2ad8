// What differs between matrix units: how a work-group's copies reach local memory, how a warp takes its fragments from there,
// and the multiply-add itself. Everything else is in matrix_tile.h.
//
//     MATRIX_UNIT 1   NVIDIA from sm_80 on, by inline PTX: cp.async, ldmatrix and mma.sync.m16n8k16
//     MATRIX_UNIT 2   AMD's WMMA (gfx11), warps of 32: wmma_f32_16x16x16
//     MATRIX_UNIT 3   AMD's MFMA (gfx90a, gfx942), warps of 64: mfma_f32_16x16x16
//
// each in float16 and bfloat16. A warp's sums are fragments of 16 × FRAGMENT_COLUMNS; a lane has WORDS_A and WORDS_B pairs of
// 16-bit numbers of the operands' fragments, and SUMS sums. Which ones (PTX ISA, "Matrix Fragments for mma.m16n8k16 with
// floating point type"; AMD, "RDNA3" and "CDNA3 Instruction Set Architecture", matrix layouts), g = lane / 4, t = lane % 4,
// l = lane % 16, q = lane / 16:
//
//                 operands: word w has k, k + 1 =                         sums: sum r has
//     NVIDIA      A  row g + 8 (w % 2),  2t + 8 (w / 2);   B  column g,  2t + 8 w      row g + 8 (r / 2),  column 2t + r % 2
//     WMMA        row, column l,         2w     (both halves of the warp alike)        row l,  column 2r + q
//     MFMA        row, column l,         4q + 2w                                       row l,  column 4q + r
//
// AMD's units are given B as their first operand and A as their second, so that a lane's sums lie in one row.
//
// ldmatrix takes four 8 × 8 matrices at once; lane l gives the address of row l % 8 of matrix l / 8, and gets of matrix r, as
// register r, row g's pair t, or, transposed, column g's. AMD's lanes read their own words, of operands along k only.
//
// EMULATED 1 is the same kernel in plain OpenCL C, for checking without the hardware: addresses, swizzles, stages, tails and
// fragments are those of the unit; ldmatrix reads what the lanes' addresses say, and a multiplication exchanges the lanes'
// registers by way of local memory. Calls are in uniform control flow, so the barriers in between are met by all.
#ifndef GRAFT_GPU_MATRIX_UNIT_H
#define GRAFT_GPU_MATRIX_UNIT_H
#ifndef GRAFT_STORAGE
#define GRAFT_STORAGE GRAFT_FLOAT16
#endif
#include "gpu/activation.h"

#ifndef MATRIX_UNIT
#define MATRIX_UNIT 1
#endif
#ifndef EMULATED
#define EMULATED 1  // what compiles everywhere
#endif
#if GRAFT_STORAGE == GRAFT_FLOAT32
#error "matrix units multiply numbers of 16 bits: set GRAFT_STORAGE"
#endif

#if MATRIX_UNIT == 1
#define LANES 32
#define FRAGMENT_COLUMNS 8
#define WORDS_A 4
#define WORDS_B 2
#define SUMS 4
#define SUM_ROW(r, lane) ((lane) / 4 + (r) / 2 * 8)
#define SUM_COLUMN(r, lane) ((lane) % 4 * 2 + (r) % 2)
#define SUM_COLUMNS 2  // how many different columns a lane's sums have, sum r that of number r % SUM_COLUMNS
#define SUM_PAIRS 1    // whether sums 2r and 2r + 1 are neighbours in a row
// Which lane and word has row m (column n) and pair k = 2 pair, 2 pair + 1; what `lane` reads, where several have it.
#define LANE_OF_A(m, pair, lane) ((m) % 8 * 4 + (pair) % 4)
#define WORD_OF_A(m, pair) ((m) / 8 + (pair) / 4 * 2)
#define LANE_OF_B(n, pair, lane) ((n) * 4 + (pair) % 4)
#define WORD_OF_B(n, pair) ((pair) / 4)
#elif MATRIX_UNIT == 2
#define LANES 32
#define FRAGMENT_COLUMNS 16
#define WORDS_A 8
#define WORDS_B 8
#define SUMS 8
#define SUM_ROW(r, lane) ((lane) % 16)
#define SUM_COLUMN(r, lane) ((r) * 2 + (lane) / 16)
#define SUM_COLUMNS 8
#define SUM_PAIRS 0
#define LANE_OF_A(m, pair, lane) ((lane) / 16 * 16 + (m))
#define WORD_OF_A(m, pair) (pair)
#define LANE_OF_B LANE_OF_A
#define WORD_OF_B WORD_OF_A
#else
#define LANES 64
#define FRAGMENT_COLUMNS 16
#define WORDS_A 2
#define WORDS_B 2
#define SUMS 4
#define SUM_ROW(r, lane) ((lane) % 16)
#define SUM_COLUMN(r, lane) ((lane) / 16 * 4 + (r))
#define SUM_COLUMNS 4
#define SUM_PAIRS 1
#define LANE_OF_A(m, pair, lane) ((pair) / 2 * 16 + (m))
#define WORD_OF_A(m, pair) ((pair) % 2)
#define LANE_OF_B LANE_OF_A
#define WORD_OF_B WORD_OF_A
#endif

// Loops that hold registers in arrays have to be unrolled; those that hold barriers must not be.
#if EMULATED
#define UNROLLED
#else
#define UNROLLED _Pragma("unroll")
#endif

// Barriers that only wait for local memory.
#define LOCAL_BARRIER barrier(CLK_LOCAL_MEM_FENCE)

#if EMULATED || MATRIX_UNIT != 1

// Copies `count` elements (2, 4 or 8), or zeros without reading anything, by way of registers: there is a block's arithmetic to
// wait behind.
static inline void copy_async(__local uchar *to, __global const element *from, bool inside, const int count) {
  if (count == 8) {
    *(__local uint4 *)to = inside ? *(__global const uint4 *)from : (uint4)(0);
  } else if (count == 4) {
    *(__local uint2 *)to = inside ? *(__global const uint2 *)from : (uint2)(0);
  } else {
    *(__local uint *)to = inside ? *(__global const uint *)from : 0;
  }
}
#define COPY_COMMIT
#define COPY_WAIT(pending)

#endif

#if EMULATED || GRAFT_STORAGE == GRAFT_BFLOAT16 && MATRIX_UNIT != 1

static inline uint unit_narrow_one(float x) { return narrow(x); }
static inline float unit_widen_one(uint bits) { return widen((element)bits); }

#elif MATRIX_UNIT != 1

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
static inline uint unit_narrow_one(float x) { return as_ushort((half)x); }
static inline float unit_widen_one(uint bits) { return (float)as_half((ushort)bits); }

#endif

#if EMULATED || MATRIX_UNIT != 1

static inline uint unit_narrow(float low, float high) { return unit_narrow_one(low) | unit_narrow_one(high) << 16; }
static inline void unit_widen(uint pair, float *to) {
  to[0] = unit_widen_one(pair & 0xFFFF);
  to[1] = unit_widen_one(pair >> 16);
}

#endif

// AMD's compiler else trades registers for warps that local memory has no room for, and keeps sums in memory.
#if EMULATED || MATRIX_UNIT == 1
#define MATRIX_KERNEL __kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1)))
#else
#define MATRIX_KERNEL __kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1), amdgpu_waves_per_eu(1, 4)))
#endif

#if !EMULATED && MATRIX_UNIT == 1

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

#elif !EMULATED

// The unit's rows are the product's columns.
static inline void multiply_fragment(float *d, const uint *a, const uint *b) {
#if MATRIX_UNIT == 2
  uint8 left = (uint8)(b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]), right = (uint8)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
  float8 sum = (float8)(d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]);
#if GRAFT_STORAGE == GRAFT_FLOAT16
  sum = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(as_half16(left), as_half16(right), sum);
#else
  sum = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(as_short16(left), as_short16(right), sum);
#endif
  d[0] = sum.s0, d[1] = sum.s1, d[2] = sum.s2, d[3] = sum.s3, d[4] = sum.s4, d[5] = sum.s5, d[6] = sum.s6, d[7] = sum.s7;
#else
  uint2 left = (uint2)(b[0], b[1]), right = (uint2)(a[0], a[1]);
  float4 sum = (float4)(d[0], d[1], d[2], d[3]);
#if GRAFT_STORAGE == GRAFT_FLOAT16
  sum = __builtin_amdgcn_mfma_f32_16x16x16f16(as_half4(left), as_half4(right), sum, 0, 0, 0);
#else
  sum = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(as_short4(left), as_short4(right), sum, 0, 0, 0);
#endif
  d[0] = sum.x, d[1] = sum.y, d[2] = sum.z, d[3] = sum.w;
#endif
}

#endif
#endif
