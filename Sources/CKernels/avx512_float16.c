#define GRAFT_ISA_PREFIX graft_avx512_float16_
#define GRAFT_STORAGE GRAFT_FLOAT16
#include "isa_avx512.inc"
