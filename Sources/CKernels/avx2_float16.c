#define GRAFT_ISA_PREFIX graft_avx2_float16_
#define GRAFT_STORAGE GRAFT_FLOAT16
#include "isa_avx2.inc"
