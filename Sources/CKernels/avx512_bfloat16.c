#define GRAFT_ISA_PREFIX graft_avx512_bfloat16_
#define GRAFT_STORAGE GRAFT_BFLOAT16
#include "isa_avx512.inc"
