// Elementwise operations. Work-items take p-independent shares of rows, so that a row's arithmetic never depends on the grid.
#include "cpu/math.h"

#define UNARY_ROWS 16

// y[row, c] = activation(x[row, c] scale[c] + shift[c]). Work-items: x blocks of UNARY_ROWS rows, y blocks of UNARY_CHANNELS.
#define UNARY_CHANNELS 4096
#define UNARY_LOOP(READ, READ_PART, VALUE)                                                          \
  for (graft_long row = first; row < end; ++row) {                                                  \
    GLOBAL const element *from = x + row * p.ldx + firstChannel;                                    \
    GLOBAL element *to = y + row * p.ldy + firstChannel;                                            \
    int c = 0;                                                                                      \
    for (; c + 2 * VW <= channels; c += 2 * VW) {                                                   \
      _Pragma("unroll") for (int v = 0; v < 2; ++v) {                                               \
        floatv x = READ(c + v * VW);                                                                \
        STOREE(VALUE, to + c + v * VW);                                                             \
      }                                                                                             \
    }                                                                                               \
    for (; c < channels; c += VW) {                                                                 \
      int count = min(VW, channels - c);                                                            \
      floatv x = READ_PART(c, count);                                                               \
      store_part(VALUE, to + c, count);                                                             \
    }                                                                                               \
  }
#define AS_IT_IS(at) LOADE(from + (at))
#define PART_AS_IT_IS(at, count) load_part(from + (at), count)
#define SCALED(at) FMAV(LOADE(from + (at)), LOADV(scale + (at)), LOADV(shift + (at)))
#define PART_SCALED(at, count) FMAV(load_part(from + (at), count), float_part(scale + (at), count), float_part(shift + (at), count))
// One loop an activation, with its constants in registers.
#define LOOP_CASE(kind, value) case kind: UNARY_LOOP(AS_IT_IS, PART_AS_IT_IS, value) break;

KERNEL4(unary, GLOBAL const element *x, GLOBAL const float *scale, GLOBAL const float *shift, GLOBAL element *y, GraftUnaryParams) {
  graft_long first = (graft_long)ITEM_X * UNARY_ROWS, end = min(first + UNARY_ROWS, p.rows);
  int firstChannel = ITEM_Y * UNARY_CHANNELS, channels = min(UNARY_CHANNELS, p.channels - firstChannel);
  const float alpha = p.epilogue.alpha, beta = p.epilogue.beta;
  const int kind = p.epilogue.activation;
  if (p.hasScale && p.hasShift && is_simple(kind)) {
    scale += firstChannel;
    shift += firstChannel;
    UNARY_LOOP(SCALED, PART_SCALED, activate_simple(x, kind, alpha, beta))
  } else if (p.hasScale || p.hasShift) {
    for (graft_long row = first; row < end; ++row)
      for (int c = 0; c < channels; c += VW) {
        int count = min(VW, channels - c), channel = firstChannel + c;
        floatv value = load_part(x + row * p.ldx + channel, count);
        if (p.hasScale) value *= float_part(scale + channel, count);
        if (p.hasShift) value += float_part(shift + channel, count);
        store_part(activate(value, kind, alpha, beta), y + row * p.ldy + channel, count);
      }
  } else {
    switch (kind) {
      SMOOTH_ACTIVATIONS(LOOP_CASE)
    default: UNARY_LOOP(AS_IT_IS, PART_AS_IT_IS, activate_simple(x, kind, alpha, beta))
    }
  }
}

INLINE floatv binary_v(floatv a, floatv b, int operation) {
  switch (operation) {
  case GRAFT_BINARY_ADD: return a + b;
  case GRAFT_BINARY_SUBTRACT: return a - b;
  case GRAFT_BINARY_MULTIPLY: return a * b;
  case GRAFT_BINARY_DIVIDE: return a / b;
  case GRAFT_BINARY_MAXIMUM: return SELECTV(b, a, (a > b) | (a != a));
  case GRAFT_BINARY_MINIMUM: return SELECTV(b, a, (a < b) | (a != a));
  case GRAFT_BINARY_PRELU: return SELECTV(a, a * b, a < fill(0.0f));
  case GRAFT_BINARY_EQUAL: return SELECTV(fill(0.0f), fill(1.0f), a == b);
  case GRAFT_BINARY_GREATER: return SELECTV(fill(0.0f), fill(1.0f), a > b);
  case GRAFT_BINARY_MASKED: return SELECTV(fill(0.0f), a, b != fill(0.0f));
  default: return a;
  }
}

// y[i] = activation(op(a[i], b[i])) with broadcasting: strides of 0 repeat.
// Work-items: x blocks of BINARY_ROWS rows of the innermost dimension.
#define BINARY_ROWS 16
KERNEL3(binary, GLOBAL const element *a, GLOBAL const element *b, GLOBAL element *y, GraftBinaryParams) {
  int last = p.rank - 1, length = p.dims[last], rows = 1;
  for (int d = 0; d < last; ++d) rows *= p.dims[d];
  int stepA = p.stridesA[last], stepB = p.stridesB[last];
  for (int row = ITEM_X * BINARY_ROWS; row < rows && row < (ITEM_X + 1) * BINARY_ROWS; ++row) {
    size_t fromA = 0, fromB = 0, to = 0;
    int rest = row;
    for (int d = last - 1; d >= 0; --d) {
      int index = rest % p.dims[d];
      rest /= p.dims[d];
      fromA += (size_t)index * p.stridesA[d];
      fromB += (size_t)index * p.stridesB[d];
      to += (size_t)index * p.stridesY[d];
    }
    for (int i = 0; i < length; i += VW) {
      int count = min(VW, length - i);
      floatv left, right;
      if (stepA == 1) {
        left = load_part(a + fromA + i, count);
      } else if (stepA == 0) {
        left = SPLAT(element_at(a + fromA));
      } else {
        float part[VW];
        for (int e = 0; e < VW; ++e) part[e] = e < count ? element_at(a + fromA + (size_t)(i + e) * stepA) : 0.0f;
        left = LOADV_PRIVATE(part);
      }
      if (stepB == 1) {
        right = load_part(b + fromB + i, count);
      } else if (stepB == 0) {
        right = SPLAT(element_at(b + fromB));
      } else {
        float part[VW];
        for (int e = 0; e < VW; ++e) part[e] = e < count ? element_at(b + fromB + (size_t)(i + e) * stepB) : 0.0f;
        right = LOADV_PRIVATE(part);
      }
      floatv value;
      if (p.operation == GRAFT_BINARY_POWER) {
        float base[VW], exponent[VW];
        STOREV_PRIVATE(left, base);
        STOREV_PRIVATE(right, exponent);
        for (int e = 0; e < VW; ++e) base[e] = e < count ? pow(base[e], exponent[e]) : 0.0f;
        value = LOADV_PRIVATE(base);
      } else {
        value = binary_v(left, right, p.operation);
      }
      value = activate(value, p.epilogue.activation, p.epilogue.alpha, p.epilogue.beta);
      if (p.stridesY[last] == 1) {
        store_part(value, y + to + i, count);
      } else {
        float part[VW];
        STOREV_PRIVATE(value, part);
        for (int e = 0; e < count; ++e) element_put(part[e], y + to + (size_t)(i + e) * p.stridesY[last]);
      }
    }
  }
}

// Bytes into elements: y[pixel, c] = x[pixel, c] scale[c] + shift[c]. Work-items: x blocks of NORMALIZE_PIXELS pixels.
#define NORMALIZE_PIXELS 1024
KERNEL4(normalize_image, GLOBAL const uchar *x, GLOBAL const float *scale, GLOBAL const float *shift, GLOBAL element *y, GraftNormalizeParams) {
  graft_long first = (graft_long)ITEM_X * NORMALIZE_PIXELS, end = min(first + NORMALIZE_PIXELS, p.pixels);
  for (graft_long pixel = first; pixel < end; ++pixel)
    for (int c = 0; c < p.channels; ++c) element_put(fma((float)x[pixel * p.channels + c], scale[c], shift[c]), y + pixel * p.ldy + c);
}
