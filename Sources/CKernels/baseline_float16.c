#define GRAFT_ISA_PREFIX graft_baseline_float16_
#define GRAFT_STORAGE GRAFT_FLOAT16
#include "isa_baseline.inc"
