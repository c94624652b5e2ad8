// Prototypes of cl_intel_subgroup_matrix_multiply_accumulate and of cl_intel_subgroups (Khronos' registry of extensions), for
// compiling what uses them without Intel's compiler. A matrix of 16-bit numbers a: 8 rows, one component each; b: a lane's column of 16 terms in pairs.
#if GRAFT_LANES == 8
float8 __attribute__((overloadable)) intel_sub_group_f16_f16_matrix_mad_k16(int8 a, int8 b, float8 acc);
float8 __attribute__((overloadable)) intel_sub_group_bf16_bf16_matrix_mad_k16(int8 a, int8 b, float8 acc);
#else
float8 __attribute__((overloadable)) intel_sub_group_f16_f16_matrix_mad_k16(short8 a, int8 b, float8 acc);
float8 __attribute__((overloadable)) intel_sub_group_bf16_bf16_matrix_mad_k16(short8 a, int8 b, float8 acc);
#endif
uint __attribute__((overloadable)) intel_sub_group_shuffle_xor(uint x, uint mask);
