// A matrix unit's multiplication in plain OpenCL C (EMULATED, matrix_unit.h): the lanes of a warp exchange their registers by way of
// local memory. Calls are in uniform control flow, so the barriers in between are met by all.
#ifndef GRAFT_GPU_MATRIX_EMULATED_H
#define GRAFT_GPU_MATRIX_EMULATED_H

// Inlined always: where several places call a function with a kernel's local memory, compilers would rather have it name that
// memory itself, and drivers that give every work-group its own (PoCL) do not find it there.
#define EMULATED_FUNCTION static inline __attribute__((always_inline))

#define EXCHANGE_WORDS (FRAGMENTS_M * WORDS_A + FRAGMENTS_N * WORDS_B)

EMULATED_FUNCTION void put_registers(const Fragments *f, __local uint *exchange) {
  __local uint *mine = exchange + get_local_id(0) * EXCHANGE_WORDS;
  for (int i = 0; i < FRAGMENTS_M; ++i)
    for (int w = 0; w < WORDS_A; ++w) mine[i * WORDS_A + w] = f->a[i][w];
  for (int j = 0; j < FRAGMENTS_N; ++j)
    for (int w = 0; w < WORDS_B; ++w) mine[FRAGMENTS_M * WORDS_A + j * WORDS_B + w] = f->b[j][w];
}

#if ELEMENT_BYTES == 4

// To 11 bits, ties away from zero, as cvt.rna.tf32.f32 does.
static inline float round_to_tf32(uint bits) {
  float x = as_float(bits);
  return x - x == 0 ? as_float((bits + 0x1000) & 0xFFFFE000) : x;
}

static inline float multiply_words(uint a, uint b, float sum) { return MULTIPLY_ADD(round_to_tf32(a), round_to_tf32(b), sum); }

#else

static inline float multiply_words(uint a, uint b, float sum) {
  float left[2], right[2];
  widen_pair(a, left);
  widen_pair(b, right);
  return MULTIPLY_ADD(left[1], right[1], MULTIPLY_ADD(left[0], right[0], sum));
}

#endif

// A word along k of row m of a fragment, from the lane or lanes that have it.
static inline uint word_of_a(__local const uint *theirs, int m, int word, int lane) {
#ifdef ROWS_A_WORD
  uint low = theirs[2 * word * EXCHANGE_WORDS + m / 2], high = theirs[(2 * word + 1) * EXCHANGE_WORDS + m / 2];
  return (low >> m % 2 * 16 & 0xFFFF) | high >> m % 2 * 16 << 16;
#else
  return theirs[LANE_OF_A(m, word, lane) * EXCHANGE_WORDS + WORD_OF_A(m, word)];
#endif
}

EMULATED_FUNCTION void multiply_registers(__local const uint *exchange, float sums[FRAGMENTS_M][FRAGMENTS_N][SUMS], int lane, int warp) {
  __local const uint *theirs = exchange + warp * LANES * EXCHANGE_WORDS;
  for (int i = 0; i < FRAGMENTS_M; ++i)
    for (int j = 0; j < FRAGMENTS_N; ++j)
      for (int r = 0; r < SUMS; ++r) {
        float sum = sums[i][j][r];
        int m = SUM_ROW(r, lane), n = SUM_COLUMN(r, lane);
        for (int word = 0; word < STEP_WORDS; ++word)
          sum = multiply_words(
              word_of_a(theirs + i * WORDS_A, m, word, lane),
              theirs[LANE_OF_B(n, word, lane) * EXCHANGE_WORDS + FRAGMENTS_M * WORDS_A + j * WORDS_B + WORD_OF_B(n, word)], sum);
        sums[i][j][r] = sum;
      }
}

#endif
