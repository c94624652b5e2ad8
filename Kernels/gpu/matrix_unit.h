// What differs between matrix units: how a work-group's copies reach local memory, how a warp takes its fragments from there,
// and the multiply-add itself. A header a vendor says how; everything else is in matrix_tile.h.
//
//     MATRIX_UNIT 1   NVIDIA from sm_80 on, by inline PTX: cp.async, ldmatrix, mma.sync.m16n8k16, in tf32 m16n8k8
//     MATRIX_UNIT 7   NVIDIA from sm_90 on, by warp groups: the same copies and sums, wgmma.mma_async instead of the others
//                     (matrix_group.h), for products alone
//     MATRIX_UNIT 4   NVIDIA's sm_75: ldmatrix and mma.sync.m16n8k8 in float16
//     MATRIX_UNIT 2   AMD's WMMA (gfx11), warps of 32: wmma_f32_16x16x16
//     MATRIX_UNIT 3   AMD's MFMA (gfx90a, gfx942), warps of 64: mfma_f32_16x16x16
//     MATRIX_UNIT 5   Intel's XMX in sub-groups of 8 (Xe-HPG): intel_sub_group_…_matrix_mad_k16
//     MATRIX_UNIT 6   the same in sub-groups of 16 (Xe-HPC and later)
//
// A step is 32 bytes of k: 16 terms in float16 and bfloat16, 8 in float32, which NVIDIA's unit multiplies with 11 bits (tf32). It
// is 8 words, each a pair of numbers or one; what follows holds for words, whichever they are. A warp's sums are fragments of
// FRAGMENT_ROWS × FRAGMENT_COLUMNS; a lane has WORDS_A and WORDS_B words of the operands' fragments, and SUMS sums. Which ones (PTX
// ISA, "Matrix Fragments for mma.m16n8k16 with floating point type" and "… m16n8k8"; AMD, "RDNA3" and "CDNA3 Instruction Set
// Architecture", matrix layouts; Khronos, "cl_intel_subgroup_matrix_multiply_accumulate"), g = lane / 4, t = lane % 4,
// l = lane % 16, q = lane / 16:
//
//                 operands: register w has word                        sums: sum r has
//     NVIDIA      A  row g + 8 (w % 2),  t + 4 (w / 2);  B  column g,  t + 4 w      row g + 8 (r / 2),  column 2t + r % 2
//     WMMA        row, column l,  w   (both halves of the warp alike)  row l,  column 2r + q
//     MFMA        row, column l,  2q + w                               row l,  column 4q + r
//     XMX, 8      A  row w,  lane;                       B  column lane,  w         row r,  column lane
//     XMX, 16     A  rows 2w and 2w + 1, k = lane;       B  column lane,  w         row r,  column lane
//
// Operands across k lie in rows of one k, and a word's two numbers in two rows: NVIDIA's ldmatrix transposes them on the way, lanes
// of the others put words together themselves.
//
// AMD's units are given B as their first operand and A as their second, so that a lane's sums lie in one row.
//
// EMULATED 1 is the same kernel in plain OpenCL C, for checking without the hardware: addresses, swizzles, stages, tails and
// fragments are those of the unit; ldmatrix reads what the lanes' addresses say, and a multiplication exchanges the lanes'
// registers by way of local memory (matrix_emulated.h).
#ifndef GRAFT_GPU_MATRIX_UNIT_H
#define GRAFT_GPU_MATRIX_UNIT_H
#include "gpu/activation.h"

#ifndef MATRIX_UNIT
#define MATRIX_UNIT 1
#endif
#ifndef EMULATED
#define EMULATED 1  // what compiles everywhere
#endif
#define MATRIX_NVIDIA (MATRIX_UNIT == 1 || MATRIX_UNIT == 4 || MATRIX_UNIT == 7)
#define MATRIX_AMD (MATRIX_UNIT == 2 || MATRIX_UNIT == 3)

#if GRAFT_STORAGE == GRAFT_FLOAT32
#define ELEMENT_BYTES 4
#else
#define ELEMENT_BYTES 2
#endif
#if GRAFT_STORAGE == GRAFT_FLOAT32 && MATRIX_UNIT != 1 || GRAFT_STORAGE == GRAFT_BFLOAT16 && MATRIX_UNIT == 4
#error "this unit does not multiply numbers of this format: set GRAFT_STORAGE"
#endif
#define STEP_BYTES 32                            // bytes of k that a fragment has
#define STEP_WORDS (STEP_BYTES / 4)              // registers
#define STEP_TERMS (STEP_BYTES / ELEMENT_BYTES)  // elements
#define CHUNK (16 / ELEMENT_BYTES)               // elements of 16 bytes

// Loops that hold registers in arrays have to be unrolled; those that hold barriers must not be.
#if EMULATED
#define UNROLLED
#else
#define UNROLLED _Pragma("unroll")
#endif

// Barriers that only wait for local memory.
#define LOCAL_BARRIER barrier(CLK_LOCAL_MEM_FENCE)

#include "gpu/matrix_block.h"
#if MATRIX_NVIDIA
#include "gpu/matrix_nvidia.h"
#elif MATRIX_AMD
#include "gpu/matrix_amd.h"
#else
#include "gpu/matrix_intel.h"
#endif

#if EMULATED || MATRIX_UNIT != 1 && MATRIX_UNIT != 7

// Copies `count` elements (4, 8 or 16 bytes), or zeros without reading anything, by way of registers: there is a block's
// arithmetic to wait behind.
static inline void copy_async(__local uchar *to, __global const element *from, bool inside, const int count) {
  if (count * ELEMENT_BYTES == 16) {
    *(__local uint4 *)to = inside ? *(__global const uint4 *)from : (uint4)(0);
  } else if (count * ELEMENT_BYTES == 8) {
    *(__local uint2 *)to = inside ? *(__global const uint2 *)from : (uint2)(0);
  } else {
    *(__local uint *)to = inside ? *(__global const uint *)from : 0;
  }
}
#define COPY_COMMIT
#define COPY_WAIT(pending)

#endif

#if EMULATED
#include "gpu/matrix_emulated.h"
#endif

// Elements beside each other in local memory, on their way to global memory and, of a residual, from there: one, or two where the
// unit's sums come in pairs.
#if SUM_PAIRS && ELEMENT_BYTES == 4

static inline void read_pair(__local const uchar *from, float *to) {
  float2 pair = *(__local const float2 *)from;
  to[0] = pair.x, to[1] = pair.y;
}
static inline void write_pair(float low, float high, __local uchar *to) { *(__local float2 *)to = (float2)(low, high); }

#elif SUM_PAIRS

#if EMULATED
#define unit_widen widen_pair
#define unit_narrow narrow_pair
#elif MATRIX_AMD
static inline uint unit_narrow(float low, float high) { return unit_narrow_one(low) | unit_narrow_one(high) << 16; }
static inline void unit_widen(uint pair, float *to) {
  to[0] = unit_widen_one(pair & 0xFFFF);
  to[1] = unit_widen_one(pair >> 16);
}
#endif
static inline void read_pair(__local const uchar *from, float *to) { unit_widen(*(__local const uint *)from, to); }
static inline void write_pair(float low, float high, __local uchar *to) { *(__local uint *)to = unit_narrow(low, high); }

#endif
#endif
