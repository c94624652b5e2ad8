// The CPU family for AVX-512 (F, BW, DQ, VL): 16 floats a vector, 32 registers.
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), apply_to = function)
#define GRAFT_ISA_PREFIX graft_avx512_
#define VW 16
#include "family.inc"
#pragma clang attribute pop
#endif
