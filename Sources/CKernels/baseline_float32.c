#define GRAFT_ISA_PREFIX graft_baseline_float32_
#define GRAFT_STORAGE GRAFT_FLOAT32
#include "isa_baseline.inc"
