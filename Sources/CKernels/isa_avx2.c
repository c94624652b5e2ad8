// The CPU family for AVX2 with FMA: 8 floats a vector, 16 registers.
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define GRAFT_ISA_PREFIX graft_avx2_
#define VW 8
#include "family.inc"
#pragma clang attribute pop
#endif
