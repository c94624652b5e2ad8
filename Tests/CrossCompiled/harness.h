// What family.c runs kernels with: values in a format, buffers with canaries, comparison with a reference.
#ifndef GRAFT_HARNESS_H
#define GRAFT_HARNESS_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "CKernels.h"

static graft_isa isa;
static int storage, failures, checks;
static const char *const storageNames[] = {"float32", "bfloat16", "float16"};

// MARK: Values

static unsigned long long state = 1;
/// A multiple of 1/16 between -15/16 and 15/16.
static double number(void) {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return ((int)(state >> 33) % 16) / 16.0 * ((state >> 62) & 1 ? 1 : -1);
}

/// A value as the format holds it, and back. Written from the formats' definitions, not from the kernels.
static double from_half(unsigned short bits) {
  int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  double size = exponent == 31 ? (mantissa ? NAN : INFINITY) : exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
  return bits >> 15 ? -size : size;
}
static unsigned short to_half(double x) {
  double size = fabs(x);
  if (size == 0) return signbit(x) ? 0x8000 : 0;
  int exponent;
  frexp(size, &exponent);
  if (exponent < -13) exponent = -13;
  double scaled = rint(ldexp(size, 11 - exponent));  // 1024 … 2048, or less if subnormal
  unsigned bits = (unsigned)((exponent + 13) << 10) + (unsigned)scaled;  // a mantissa of 2048 carries into the exponent
  return (unsigned short)((bits > 0x7C00 ? 0x7C00 : bits) | (x < 0 ? 0x8000 : 0));
}
static double stored(const void *values, size_t i) {
  if (storage == GRAFT_FLOAT32) return ((const float *)values)[i];
  unsigned short bits = ((const unsigned short *)values)[i];
  if (storage == GRAFT_FLOAT16) return from_half(bits);
  unsigned wide = (unsigned)bits << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
}
static void store(double x, void *values, size_t i) {
  if (storage == GRAFT_FLOAT32) {
    ((float *)values)[i] = (float)x;
  } else if (storage == GRAFT_FLOAT16) {
    ((unsigned short *)values)[i] = to_half(x);
  } else {
    float value = (float)x;
    unsigned bits;
    memcpy(&bits, &value, 4);
    ((unsigned short *)values)[i] = (unsigned short)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
  }
}

// Buffers live as long as the process.
#define CANARY 64
/// Room for `count` elements of either size, with a canary behind them.
typedef struct {
  void *bytes;
  size_t byteCount;
} Buffer;
static Buffer buffer(size_t count, size_t elementSize) {
  Buffer made = {malloc(count * elementSize + CANARY), count * elementSize};
  if (!made.bytes) exit(2);
  memset(made.bytes, 0x5A, made.byteCount + CANARY);
  return made;
}
static size_t element_size(void) { return storage == GRAFT_FLOAT32 ? 4 : 2; }
static Buffer elements(size_t count) {
  Buffer made = buffer(count, element_size());
  for (size_t i = 0; i < count; ++i) store(number(), made.bytes, i);
  return made;
}
static Buffer floats(size_t count) {
  Buffer made = buffer(count, 4);
  for (size_t i = 0; i < count; ++i) ((float *)made.bytes)[i] = (float)number();
  return made;
}
static float at(Buffer of, size_t i) { return ((const float *)of.bytes)[i]; }

// MARK: Running and comparing

static void run(const char *name, int format, const void *p, int x, int y, int z, Buffer *const *buffers, int count) {
  graft_kernel_function kernel = graft_kernel_find(isa, format, name);
  if (!kernel) {
    printf("no kernel %s in %s\n", name, storageNames[format]);
    exit(1);
  }
  void *pointers[10] = {0};
  for (int i = 0; i < count; ++i) pointers[i] = buffers[i] ? buffers[i]->bytes : NULL;
  for (int k = 0; k < z; ++k)
    for (int j = 0; j < y; ++j)
      for (int i = 0; i < x; ++i) kernel(pointers, p, i, j, k);
  for (int i = 0; i < count; ++i)
    for (int c = 0; buffers[i] && c < CANARY; ++c)
      if (((unsigned char *)buffers[i]->bytes)[buffers[i]->byteCount + c] != 0x5A) {
        printf("%s in %s wrote beyond argument %d\n", name, storageNames[storage], i);
        failures += 1;
        break;
      }
}
#define RUN(name, p, x, y, z, ...) \
  run(name, storage, &p, x, y, z, (Buffer *const[]){__VA_ARGS__}, sizeof((Buffer *const[]){__VA_ARGS__}) / sizeof(Buffer *))

static const char *what;
static double worst, largest;
static void begin(const char *name) { what = name, worst = largest = 0; }
/// What an error has beyond the rounding of the result to the format (8 and 11 significant bits) counts.
static void compare(double got, double expected) {
  double rounding = storage == GRAFT_BFLOAT16 ? 0x1p-8 : storage == GRAFT_FLOAT16 ? 0x1p-11 : 0;
  double error = fabs(got - expected) - rounding * fabs(expected);
  worst = isnan(error) ? INFINITY : fmax(worst, error);
  largest = fmax(largest, fabs(expected));
}
/// Small numbers count as much as large ones.
static void exact(double got, double expected) {
  if (got != expected) worst = INFINITY;
  largest = fmax(largest, fabs(expected));
}
/// `bound`: of the largest value.
static void end(double bound) {
  checks += 1;
  if (worst <= bound * largest && largest > 0) return;
  failures += 1;
  printf("%s in %s: off by %g of %g, allowed %g\n", what, storageNames[storage], worst, largest, bound * largest);
}

static int up(int a, int b) { return (a + b - 1) / b; }
static int vector(void) { return graft_isa_vector_width(isa); }
static int panel(void) { return vector() * graft_isa_panel_vectors(isa); }
static int rounded(int channels) { return up(channels, vector()) * vector(); }
static int packed_rows(int channels) { return storage == GRAFT_FLOAT32 ? channels : up(channels, 2) * 2; }
/// The activations the tests use; every other one is in `activations`.
static double activated(double x, int kind) {
  switch (kind) {
  case GRAFT_ACTIVATION_RELU: return x > 0 ? x : 0;
  case GRAFT_ACTIVATION_SILU: return x / (1 + exp(-x));
  default: return x;
  }
}

#endif
