#define GRAFT_ISA_PREFIX graft_avx2_bfloat16_
#define GRAFT_STORAGE GRAFT_BFLOAT16
#include "isa_avx2.inc"
