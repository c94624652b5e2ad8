// The format in which values lie in memory: `element`. GRAFT_STORAGE chooses it when the family is compiled; arithmetic is
// float32 whatever it is.
//
//     GRAFT_FLOAT32   element is float, and loads and stores are those of dialect.h
//     GRAFT_BFLOAT16  the upper half of a float32: widened by a shift, narrowed by rounding to nearest even
//     GRAFT_FLOAT16   IEEE binary16
//
// LOADE and STOREE move a vector, load_part and store_part its first elements, element_at and element_put one of them.
// Parameters (biases, scales, shifts, depthwise weights) stay float32: LOADV and float_part.
#ifndef GRAFT_CPU_ELEMENT_H
#define GRAFT_CPU_ELEMENT_H
#include "common/dialect.h"
#include "common/params.h"

#ifndef GRAFT_STORAGE
#define GRAFT_STORAGE GRAFT_FLOAT32
#endif

#if GRAFT_STORAGE == GRAFT_FLOAT32

typedef float element;
#define LOADE(pointer) LOADV(pointer)
#define STOREE(value, pointer) STOREV(value, pointer)
#define LOADE_PRIVATE(pointer) LOADV_PRIVATE(pointer)
#define STOREE_PRIVATE(value, pointer) STOREV_PRIVATE(value, pointer)
#define MOVEE(from, to) STOREV(LOADV(from), to)
#define MOVEE_PRIVATE(from, to) STOREV_PRIVATE(LOADV(from), to)

#else

typedef ushort element;

#ifdef GRAFT_OPENCL
#define ushortv GRAFT_JOIN(ushort, VW)
#define LOAD_BITS(pointer) GRAFT_JOIN(vload, VW)(0, pointer)
#define STORE_BITS(value, pointer) GRAFT_JOIN(vstore, VW)(value, 0, pointer)
#define ZERO_EXTEND(x) GRAFT_JOIN(convert_int, VW)(x)
#define TRUNCATE(x) GRAFT_JOIN(convert_ushort, VW)(x)
#else
typedef ushort ushortv __attribute__((ext_vector_type(VW)));
typedef ushortv ushortv_unaligned __attribute__((aligned(2)));
#define LOAD_BITS(pointer) (*(const ushortv_unaligned *)(pointer))
#define STORE_BITS(value, pointer) (*(ushortv_unaligned *)(pointer) = (value))
#define ZERO_EXTEND(x) __builtin_convertvector(x, intv)
#define TRUNCATE(x) __builtin_convertvector(x, ushortv)
#endif
#define MOVEE(from, to) STORE_BITS(LOAD_BITS(from), to)
#define MOVEE_PRIVATE(from, to) STORE_BITS(LOAD_BITS(from), to)

#if GRAFT_STORAGE == GRAFT_BFLOAT16

INLINE floatv widen(ushortv x) { return BITS_FLOATV(ZERO_EXTEND(x) << 16); }

INLINE ushortv narrow(floatv x) {
#ifdef GRAFT_HAS_BFLOAT16
  return NARROW_BFLOAT16(x);
#else
  intv bits = FLOATV_BITS(x);
  intv rounded = bits + 0x7FFF + ((bits >> 16) & 1);
  // A NaN stays one: rounding may not carry it into another number.
  intv kept = SELECTV(rounded, bits | 0x400000, x != x);
  return TRUNCATE(kept >> 16);
#endif
}

#elif defined(GRAFT_HAS_FLOAT16)

INLINE floatv widen(ushortv x) { return WIDEN_FLOAT16(x); }
INLINE ushortv narrow(floatv x) { return NARROW_FLOAT16(x); }

#elif defined(GRAFT_OPENCL)

// By way of a variable: there are drivers whose vload_half wants whole vectors' alignment.
INLINE floatv widen(ushortv x) { return GRAFT_JOIN(vload_half, VW)(0, (const half *)&x); }

INLINE ushortv narrow(floatv x) {
  ushortv bits;
  GRAFT_JOIN(GRAFT_JOIN(vstore_half, VW), _rte)(x, 0, (half *)&bits);
  return bits;
}

#else

// Without instructions for it: the exponent moved by a multiplication, which makes subnormal numbers right as well.
INLINE floatv widen(ushortv x) {
  intv bits = ZERO_EXTEND(x);
  floatv size = BITS_FLOATV((bits & 0x7FFF) << 13) * SPLAT(0x1p112f);
  intv magnitude = FLOATV_BITS(size);
  magnitude = SELECTV(magnitude, magnitude | 0x7F800000, size >= SPLAT(65536.0f));
  return BITS_FLOATV(magnitude | ((bits & 0x8000) << 16));
}

INLINE ushortv narrow(floatv x) {
  intv bits = FLOATV_BITS(x), magnitude = bits & 0x7FFFFFFF;
  floatv size = BITS_FLOATV(magnitude);
  // The exponent from a bias of 127 to one of 15, rounded to nearest even.
  intv half = (magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
  // Subnormal: adding 1/2 leaves the rounded result in the low bits.
  half = SELECTV(half, FLOATV_BITS(size + SPLAT(0.5f)) - 0x3F000000, size < SPLAT(0x1p-14f));
  half = SELECTV(half, (intv)(0x7C00), size >= SPLAT(65536.0f));
  half = SELECTV(half, (intv)(0x7E00), x != x);
  return TRUNCATE(half | ((bits >> 16) & 0x8000));
}

#endif

#define LOADE(pointer) widen(LOAD_BITS(pointer))
#define STOREE(value, pointer) STORE_BITS(narrow(value), pointer)
#define LOADE_PRIVATE(pointer) LOADE(pointer)
#define STOREE_PRIVATE(value, pointer) STOREE(value, pointer)

#endif

// The first `count` (1 … VW) elements as floats; the rest are zero.
INLINE floatv load_part(GLOBAL const element *source, int count) {
  if (count >= VW) return LOADE(source);
#if GRAFT_STORAGE == GRAFT_FLOAT32 && defined(LOAD_FIRST_FLOATS)
  return LOAD_FIRST_FLOATS(source, count);
#elif GRAFT_STORAGE != GRAFT_FLOAT32 && defined(LOAD_FIRST_BITS)
  return widen(LOAD_FIRST_BITS(source, count));
#else
  element part[VW];
  for (int i = 0; i < VW; ++i) part[i] = i < count ? source[i] : 0;
  return LOADE_PRIVATE(part);
#endif
}

INLINE void store_part(floatv value, GLOBAL element *target, int count) {
  if (count >= VW) {
    STOREE(value, target);
    return;
  }
#if GRAFT_STORAGE == GRAFT_FLOAT32 && defined(STORE_FIRST_FLOATS)
  STORE_FIRST_FLOATS(value, target, count);
#elif GRAFT_STORAGE != GRAFT_FLOAT32 && defined(STORE_FIRST_BITS)
  STORE_FIRST_BITS(narrow(value), target, count);
#else
  element part[VW];
  STOREE_PRIVATE(value, part);
  for (int i = 0; i < count; ++i) target[i] = part[i];
#endif
}

INLINE void move_part(GLOBAL const element *source, GLOBAL element *target, int count) {
  if (count >= VW) {
    MOVEE(source, target);
    return;
  }
  for (int i = 0; i < count; ++i) target[i] = source[i];
}

#if GRAFT_STORAGE != GRAFT_FLOAT32
// The first `count` elements as they are.
INLINE ushortv load_bits_part(GLOBAL const element *source, int count) {
  if (count >= VW) return LOAD_BITS(source);
#ifdef LOAD_FIRST_BITS
  return LOAD_FIRST_BITS(source, count);
#else
  element part[VW];
  for (int i = 0; i < VW; ++i) part[i] = i < count ? source[i] : 0;
  return LOAD_BITS(part);
#endif
}

INLINE void store_bits_part(ushortv value, GLOBAL element *target, int count) {
  if (count >= VW) {
    STORE_BITS(value, target);
    return;
  }
#ifdef STORE_FIRST_BITS
  STORE_FIRST_BITS(value, target, count);
#else
  element part[VW];
  STORE_BITS(value, part);
  for (int i = 0; i < count; ++i) target[i] = part[i];
#endif
}
#endif

// The same of float32 parameters.
INLINE floatv float_part(GLOBAL const float *source, int count) {
  if (count >= VW) return LOADV(source);
#ifdef LOAD_FIRST_FLOATS
  return LOAD_FIRST_FLOATS(source, count);
#else
  float part[VW];
  for (int i = 0; i < VW; ++i) part[i] = i < count ? source[i] : 0.0f;
  return LOADV_PRIVATE(part);
#endif
}

INLINE void store_float_part(floatv value, GLOBAL float *target, int count) {
  if (count >= VW) {
    STOREV(value, target);
    return;
  }
#ifdef STORE_FIRST_FLOATS
  STORE_FIRST_FLOATS(value, target, count);
#else
  float part[VW];
  STOREV_PRIVATE(value, part);
  for (int i = 0; i < count; ++i) target[i] = part[i];
#endif
}

// One element.
INLINE float element_at(GLOBAL const element *source) {
#if GRAFT_STORAGE == GRAFT_FLOAT32
  return *source;
#else
  return widen((ushortv)(*source)).s0;
#endif
}

INLINE void element_put(float value, GLOBAL element *target) {
#if GRAFT_STORAGE == GRAFT_FLOAT32
  *target = value;
#else
  *target = narrow(SPLAT(value)).s0;
#endif
}

#endif
