// What the x86 instruction sets have beyond clang's vector extensions, under the names that Kernels/cpu/element.h and tile.h
// look for. VW is 8 (AVX2) or 16 (AVX-512); GRAFT_HAS_BFLOAT16 says that there is AVX512-BF16.
#include <immintrin.h>

#define GRAFT_HAS_FLOAT16 1
#define GRAFT_TO_NEAREST (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

#if VW == 16
#define WIDEN_FLOAT16(x) ((floatv)_mm512_cvtph_ps((__m256i)(x)))
#define NARROW_FLOAT16(x) ((ushortv)_mm512_cvtps_ph((__m512)(x), GRAFT_TO_NEAREST))
#define FIRST_LANES(count) ((__mmask16)((1u << (count)) - 1))
#define LOAD_FIRST_FLOATS(pointer, count) ((floatv)_mm512_maskz_loadu_ps(FIRST_LANES(count), pointer))
#define STORE_FIRST_FLOATS(value, pointer, count) _mm512_mask_storeu_ps(pointer, FIRST_LANES(count), (__m512)(value))
#define LOAD_FIRST_BITS(pointer, count) ((ushortv)_mm256_maskz_loadu_epi16(FIRST_LANES(count), pointer))
#define STORE_FIRST_BITS(value, pointer, count) _mm256_mask_storeu_epi16(pointer, FIRST_LANES(count), (__m256i)(value))
#else
#define WIDEN_FLOAT16(x) ((floatv)_mm256_cvtph_ps((__m128i)(x)))
#define NARROW_FLOAT16(x) ((ushortv)_mm256_cvtps_ph((__m256)(x), GRAFT_TO_NEAREST))
#define FIRST_LANES(count) _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define LOAD_FIRST_FLOATS(pointer, count) ((floatv)_mm256_maskload_ps(pointer, FIRST_LANES(count)))
#define STORE_FIRST_FLOATS(value, pointer, count) _mm256_maskstore_ps(pointer, FIRST_LANES(count), (__m256)(value))
#endif

#ifdef GRAFT_HAS_BFLOAT16
// Sums of two products a lane, added in float32.
#define DOT_PAIRS(sum, a, b) ((floatv)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(a), (__m512bh)(b)))
#define NARROW_BFLOAT16(x) ((ushortv)_mm512_cvtneps_pbh((__m512)(x)))
#endif
