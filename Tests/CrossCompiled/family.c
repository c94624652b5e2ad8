// The native CPU family against naive references in double precision, in C alone, so that it runs wherever a C compiler
// reaches: Tools/check-aarch64 compiles it for another processor than the one it stands on.
//
//     family ISA        baseline, avx2, avx512 or avx512bf16 (graft_isa_name says what baseline is); exits 1 on a difference
//
// Every kernel with arithmetic of its own is run in every format it comes in, on shapes with tails in every extent. Values are
// multiples of 1/16 below 1, which all three formats hold exactly, so a reference needs no rounding of its inputs.
#include "harness.h"

// MARK: Products and convolutions

static void matrix_product(int m, int n, int k, int activation) {
  Buffer a = elements((size_t)m * k), b = floats((size_t)k * n), bias = floats(n), residual = elements((size_t)m * n);
  Buffer y = elements((size_t)m * n), packed = elements((size_t)packed_rows(k) * rounded(n));
  GraftPackParams pack = {.batch = 1, .groups = 1, .oc = n, .c = k, .taps = 1, .strideO = 1, .strideC = n};
  RUN("pack", pack, up(n, panel()), 1, 1, &b, &packed);
  GraftGemmParams p = {.batch = 1, .m = m, .n = n, .k = k, .lda = k, .ldy = n, .ldr = n, .rowsPerItem = 24, .panelsPerItem = 1,
                       .epilogue = {.activation = activation, .hasBias = 1, .hasResidual = 1}};
  RUN("gemm", p, up(m, 24), up(n, panel()), 1, &a, &packed, &bias, &residual, &y);
  begin("gemm");
  for (int i = 0; i < m; ++i)
    for (int o = 0; o < n; ++o) {
      double sum = at(bias, o) + stored(residual.bytes, (size_t)i * n + o);
      for (int c = 0; c < k; ++c) sum += stored(a.bytes, (size_t)i * k + c) * at(b, (size_t)c * n + o);
      compare(stored(y.bytes, (size_t)i * n + o), activated(sum, activation));
    }
  end(2e-6);
}

/// Both matrices as they lie, each transposed or not; float32 only.
static void product_in_place(int m, int n, int k, int transposeA, int transposeB) {
  Buffer a = floats((size_t)m * k), b = floats((size_t)k * n), bias = floats(n), residual = floats((size_t)m * n), y = floats((size_t)m * n);
  GraftGemmParams p = {.batch = 1, .m = m, .n = n, .k = k, .lda = transposeA ? m : k, .ldb = transposeB ? k : n, .ldy = n, .ldr = n,
                       .transposeA = transposeA, .transposeB = transposeB, .rowsPerItem = 16, .panelsPerItem = 1,
                       .epilogue = {.activation = GRAFT_ACTIVATION_RELU, .hasBias = 1, .hasResidual = 1}};
  RUN("product", p, up(m, 16), up(n, panel()), 1, &a, &b, &bias, &residual, &y);
  begin("product in place");
  for (int i = 0; i < m; ++i)
    for (int o = 0; o < n; ++o) {
      double sum = at(bias, o) + at(residual, (size_t)i * n + o);
      for (int c = 0; c < k; ++c)
        sum += at(a, transposeA ? (size_t)c * m + i : (size_t)i * k + c) * (double)at(b, transposeB ? (size_t)o * k + c : (size_t)c * n + o);
      compare(at(y, (size_t)i * n + o), activated(sum, GRAFT_ACTIVATION_RELU));
    }
  end(2e-6);
}

typedef struct {
  int kernel, stride, pad, groups, outputs, activation, winograd, anew;
} Convolution;

/// Inputs [2, 9, 11, c] by the way the arguments choose: direct, depthwise, or Winograd's.
static void convolution(const char *name, Convolution f, int c) {
  int n = 2, h = 9, w = 11, k = f.kernel, oc = f.outputs, oh = (h + 2 * f.pad - k) / f.stride + 1, ow = (w + 2 * f.pad - k) / f.stride + 1;
  int groupIn = c / f.groups, groupOut = oc / f.groups, taps = k * k, depthwise = f.groups == c;
  Buffer x = elements((size_t)n * h * w * c), weights = floats((size_t)oc * groupIn * taps), bias = floats(oc);
  Buffer residual = elements((size_t)n * oh * ow * oc), y = elements((size_t)n * oh * ow * oc), zeros = elements(c);
  memset(zeros.bytes, 0, zeros.byteCount);
  GraftEpilogue epilogue = {.activation = f.activation, .hasBias = 1, .hasResidual = 1};
  GraftConvParams p = {.n = n, .h = h, .w = w, .c = c, .oh = oh, .ow = ow, .oc = oc, .kh = k, .kw = k, .strideH = f.stride, .strideW = f.stride,
                       .padH = f.pad, .padW = f.pad, .dilationH = 1, .dilationW = 1, .groups = f.groups, .ldx = c, .ldy = oc, .ldr = oc,
                       .rowsPerItem = 24, .panelsPerItem = 1, .epilogue = epilogue};
  if (f.winograd) {
    // Weights transformed at once, then anew from packed ones, a panel of outputs at a time.
    int m = f.winograd, positions = (m + 2) * (m + 2), th = up(oh, m), tw = up(ow, m), tiles = n * th * tw;
    int outputs = f.anew ? panel() : oc, step = c * rounded(outputs) + 8;
    GraftWinogradParams q = {.n = n, .h = h, .w = w, .c = c, .oh = oh, .ow = ow, .oc = oc, .padH = f.pad, .padW = f.pad, .ldx = c, .ldy = oc,
                             .ldr = oc, .tilesH = th, .tilesW = tw, .tileCount = tiles, .outputCount = oc, .weightStep = step, .epilogue = epilogue};
    char weightsName[32], panelsName[32], inputName[32], outputName[32];
    snprintf(weightsName, sizeof weightsName, "winograd_weights_%d", m);
    snprintf(panelsName, sizeof panelsName, "winograd_panels_%d", m);
    snprintf(inputName, sizeof inputName, "winograd_input_%d", m);
    snprintf(outputName, sizeof outputName, "winograd_output_%d", m);
    Buffer packed = floats((size_t)positions * step), v = floats((size_t)positions * tiles * c);
    Buffer products = floats((size_t)positions * tiles * outputs), packedTaps = floats((size_t)9 * c * rounded(oc));
    GraftPackParams pack = {.batch = 1, .groups = 1, .oc = oc, .c = c, .taps = 9, .strideO = c * 9, .strideC = 9, .strideTap = 1};
    run("pack", GRAFT_FLOAT32, &pack, up(oc, panel()), 1, 1, (Buffer *const[]){&weights, &packedTaps}, 2);
    RUN(inputName, q, up(tiles, 4), 1, 1, &x, &zeros, &v);
    for (q.firstOutput = 0; q.firstOutput < oc; q.firstOutput += outputs) {
      q.outputCount = oc - q.firstOutput < outputs ? oc - q.firstOutput : outputs;
      if (f.anew) RUN(panelsName, q, up(q.outputCount, panel()), up(c, 16), 1, &packedTaps, &packed);
      else RUN(weightsName, q, up(oc, panel()), up(c, 16), 1, &weights, &packed);
      GraftGemmParams g = {.strideA = tiles * c, .strideB = step, .strideY = tiles * q.outputCount, .batch = positions, .m = tiles,
                           .n = q.outputCount, .k = c, .lda = c, .ldy = q.outputCount, .rowsPerItem = 24, .panelsPerItem = 1};
      run("gemm", GRAFT_FLOAT32, &g, up(tiles, 24), up(q.outputCount, panel()), positions, (Buffer *const[]){&v, &packed, NULL, NULL, &products}, 5);
      RUN(outputName, q, up(tiles, 4), 1, 1, &products, &bias, &residual, &y);
    }
  } else if (depthwise) {
    Buffer packed = floats((size_t)taps * rounded(c));
    GraftPackParams pack = {.batch = 1, .groups = 1, .oc = c, .c = 1, .taps = taps, .strideO = taps, .strideC = taps, .strideTap = 1};
    RUN("pack_depthwise", pack, taps, 1, 1, &weights, &packed);
    RUN("depthwise", p, n * oh, 1, 1, &x, &packed, &bias, &residual, &y);
  } else {
    Buffer packed = elements((size_t)f.groups * taps * packed_rows(groupIn) * rounded(groupOut));
    GraftPackParams pack = {.batch = 1, .groups = f.groups, .oc = groupOut, .c = groupIn, .taps = taps, .strideO = groupIn * taps,
                            .strideC = taps, .strideTap = 1, .strideGroup = groupOut * groupIn * taps};
    RUN("pack", pack, up(groupOut, panel()), f.groups, 1, &weights, &packed);
    RUN("conv", p, up(n * oh * ow, 24), up(groupOut, panel()), f.groups, &x, &packed, &bias, &residual, &zeros, &y);
  }
  begin(name);
  for (size_t i = 0; i < (size_t)n * oh * ow * oc; ++i) {
    int o = i % oc, column = i / oc % ow, row = i / oc / ow % oh, image = i / oc / ow / oh;
    double sum = at(bias, o) + stored(residual.bytes, i);
    for (int tap = 0; tap < taps; ++tap) {
      int r = row * f.stride + tap / k - f.pad, s = column * f.stride + tap % k - f.pad;
      if (r < 0 || r >= h || s < 0 || s >= w) continue;
      for (int q = 0; q < groupIn; ++q)
        sum += stored(x.bytes, (((size_t)image * h + r) * w + s) * c + o / groupOut * groupIn + q) * at(weights, ((size_t)o * groupIn + q) * taps + tap);
    }
    compare(stored(y.bytes, i), activated(sum, f.activation));
  }
  end(f.winograd ? 1e-5 : 2e-6);
}

/// A value as the format rounds it.
static double held(double x) {
  double place;
  store(x, &place, 0);
  return stored(&place, 0);
}

/// A pointwise convolution to 19 channels (or none), a depthwise one, another pointwise one: x: [2, 8, 10, c] to 21 channels.
static void separable(int kernel, int stride, int hasExpansion) {
  const int n = 2, h = 8, w = 10, c = hasExpansion ? 7 : 19, e = 19, oc = 21, pad = kernel / 2, rows = 2, items = 3;
  const int oh = (h + 2 * pad - kernel) / stride + 1, ow = (w + 2 * pad - kernel) / stride + 1, taps = kernel * kernel;
  Buffer x = elements((size_t)n * h * w * c), expansion = floats((size_t)e * c), expansionBias = floats(e), filter = floats((size_t)e * taps);
  Buffer filterBias = floats(e), projection = floats((size_t)oc * e), projectionBias = floats(oc);
  Buffer residual = elements((size_t)n * oh * ow * oc), y = elements((size_t)n * oh * ow * oc);
  Buffer packedExpansion = elements((size_t)packed_rows(c) * rounded(e)), packedFilter = floats((size_t)taps * rounded(e));
  Buffer packedProjection = elements((size_t)packed_rows(e) * rounded(oc));
  GraftPackParams q = {.batch = 1, .groups = 1, .oc = e, .c = c, .taps = 1, .strideO = c, .strideC = 1, .strideTap = 1};
  RUN("pack", q, up(e, panel()), 1, 1, &expansion, &packedExpansion);
  q = (GraftPackParams){.batch = 1, .groups = 1, .oc = oc, .c = e, .taps = 1, .strideO = e, .strideC = 1, .strideTap = 1};
  RUN("pack", q, up(oc, panel()), 1, 1, &projection, &packedProjection);
  q = (GraftPackParams){.batch = 1, .groups = 1, .oc = e, .c = 1, .taps = taps, .strideO = taps, .strideC = taps, .strideTap = 1};
  RUN("pack_depthwise", q, taps, 1, 1, &filter, &packedFilter);
  const int relu = GRAFT_ACTIVATION_RELU, ringRows = (rows - 1) * stride + kernel, ld = rounded(e) + vector();
  const int width = up(ow, 4) * 4 * stride + kernel > pad + w ? up(ow, 4) * 4 * stride + kernel : pad + w;
  GraftSeparableParams p = {.scratchPerItem = ((ringRows + 1) * width + rows * ow) * ld, .n = n, .h = h, .w = w, .c = c, .e = e, .oh = oh,
                            .ow = ow, .oc = oc, .kh = kernel, .kw = kernel, .strideH = stride, .strideW = stride, .padH = pad, .padW = pad,
                            .ldx = c, .ldy = oc, .ldr = oc, .hasExpansion = hasExpansion, .rowsPerStep = rows, .ringRows = ringRows,
                            .ringWidth = width, .ringStride = ld, .items = items, .expansion = {.activation = relu, .hasBias = 1},
                            .depthwise = {.activation = relu, .hasBias = 1}, .projection = {.hasBias = 1, .hasResidual = 1}};
  Buffer scratch = elements((size_t)p.scratchPerItem * items);
  Buffer *arguments[] = {&x, &packedExpansion, &expansionBias, &packedFilter, &filterBias, &packedProjection, &projectionBias, &residual, &scratch, &y};
  run("separable", storage, &p, items, 1, 1, arguments, 10);
  // What flows between is held in the format, as the kernel holds it.
  double *t = calloc((size_t)n * h * w * e, sizeof *t), *u = calloc((size_t)n * oh * ow * e, sizeof *u);
  if (!t || !u) exit(2);
  for (size_t i = 0; i < (size_t)n * h * w * e; ++i) {
    double sum = at(expansionBias, i % e);
    for (int q = 0; q < c; ++q) sum += stored(x.bytes, i / e * c + q) * at(expansion, i % e * c + q);
    t[i] = hasExpansion ? held(activated(sum, relu)) : stored(x.bytes, i);
  }
  for (size_t i = 0; i < (size_t)n * oh * ow * e; ++i) {
    int o = i % e, column = i / e % ow, row = i / e / ow % oh, image = i / e / ow / oh;
    double sum = at(filterBias, o);
    for (int tap = 0; tap < taps; ++tap) {
      int r = row * stride + tap / kernel - pad, s = column * stride + tap % kernel - pad;
      if (r >= 0 && r < h && s >= 0 && s < w) sum += t[(((size_t)image * h + r) * w + s) * e + o] * at(filter, (size_t)o * taps + tap);
    }
    u[i] = held(activated(sum, relu));
  }
  begin("separable");
  for (size_t i = 0; i < (size_t)n * oh * ow * oc; ++i) {
    double sum = at(projectionBias, i % oc) + stored(residual.bytes, i);
    for (int q = 0; q < e; ++q) sum += u[i / oc * e + q] * at(projection, i % oc * e + q);
    compare(stored(y.bytes, i), sum);
  }
  free(t);
  free(u);
  end(2e-6);
}

// MARK: The others

static void pooling(int average) {
  int h = 8, w = 9, c = 5 * vector() + 3, oh = 4, ow = 5;
  Buffer x = elements((size_t)h * w * c), y = elements((size_t)oh * ow * c);
  GraftPoolParams p = {.n = 1, .h = h, .w = w, .c = c, .oh = oh, .ow = ow, .kh = 3, .kw = 3, .strideH = 2, .strideW = 2, .padH = 1, .padW = 1,
                       .dilationH = 1, .dilationW = 1, .ldx = c, .ldy = c, .average = average};
  RUN("pool", p, oh, 1, 1, &x, &y);
  begin(average ? "average pool" : "maximum pool");
  for (int i = 0; i < oh * ow * c; ++i) {
    double sum = 0, most = -INFINITY;
    int count = 0;
    for (int tap = 0; tap < 9; ++tap) {
      int r = i / c / ow * 2 + tap / 3 - 1, s = i / c % ow * 2 + tap % 3 - 1;
      if (r < 0 || r >= h || s < 0 || s >= w) continue;
      double value = stored(x.bytes, ((size_t)r * w + s) * c + i % c);
      sum += value, most = fmax(most, value), count += 1;
    }
    compare(stored(y.bytes, i), average ? sum / count : most);
  }
  end(2e-7);
}

static double reference_activation(double x, int kind) {
  switch (kind) {
  case GRAFT_ACTIVATION_RELU: return x > 0 ? x : 0;
  case GRAFT_ACTIVATION_CLIP: return fmin(fmax(x, 0.25), 0.5);
  case GRAFT_ACTIVATION_LEAKY_RELU: return x < 0 ? 0.25 * x : x;
  case GRAFT_ACTIVATION_SIGMOID: return 1 / (1 + exp(-x));
  case GRAFT_ACTIVATION_TANH: return tanh(x);
  case GRAFT_ACTIVATION_HARD_SIGMOID: return fmin(fmax(0.25 * x + 0.5, 0), 1);
  case GRAFT_ACTIVATION_HARD_SWISH: return x * fmin(fmax(x / 6 + 0.5, 0), 1);
  case GRAFT_ACTIVATION_SILU: return x / (1 + exp(-x));
  case GRAFT_ACTIVATION_GELU: return x / 2 * (1 + erf(x / sqrt(2)));
  case GRAFT_ACTIVATION_GELU_TANH: return x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case GRAFT_ACTIVATION_ERF: return erf(x);
  case GRAFT_ACTIVATION_EXP: return exp(x);
  case GRAFT_ACTIVATION_LOG: return log(x);
  case GRAFT_ACTIVATION_SQRT: return sqrt(x);
  case GRAFT_ACTIVATION_RECIPROCAL: return 1 / x;
  case GRAFT_ACTIVATION_NEGATE: return -x;
  case GRAFT_ACTIVATION_ABSOLUTE: return fabs(x);
  case GRAFT_ACTIVATION_ELU: return x < 0 ? 0.25 * (exp(x) - 1) : x;
  case GRAFT_ACTIVATION_SOFTPLUS: return log1p(exp(x));
  default: return x;
  }
}

static void activations(int kind) {
  int rows = 19, c = 37, positive = kind == GRAFT_ACTIVATION_LOG || kind == GRAFT_ACTIVATION_SQRT || kind == GRAFT_ACTIVATION_RECIPROCAL;
  Buffer x = elements((size_t)rows * c), y = elements((size_t)rows * c), scale = floats(c), shift = floats(c);
  for (int i = 0; i < rows * c; ++i) store((positive ? fabs(number()) + 0.0625 : 8 * number()), x.bytes, i);
  GraftUnaryParams p = {.rows = rows, .channels = c, .ldx = c, .ldy = c, .hasScale = !positive, .hasShift = !positive,
                        .epilogue = {.activation = kind, .alpha = 0.25f, .beta = 0.5f}};
  RUN("unary", p, up(rows, 16), 1, 1, &x, &scale, &shift, &y);
  char name[32];
  snprintf(name, sizeof name, "activation %d", kind);
  begin(name);
  for (int i = 0; i < rows * c; ++i) {
    double value = stored(x.bytes, i);
    if (!positive) value = value * at(scale, i % c) + at(shift, i % c);
    compare(stored(y.bytes, i), reference_activation(value, kind));
  }
  end(1e-6);
}

static void binary(int operation) {
  int rows = 17, c = 23;
  Buffer a = elements((size_t)rows * c), b = elements(c), y = elements((size_t)rows * c);
  for (int i = 0; i < c; ++i) store(fabs(number()) + 0.5, b.bytes, i);
  if (operation == GRAFT_BINARY_POWER)
    for (int i = 0; i < rows * c; ++i) store(fabs(number()) + 0.125, a.bytes, i);
  GraftBinaryParams p = {.rank = 2, .dims = {rows, c}, .stridesA = {c, 1}, .stridesB = {0, 1}, .stridesY = {c, 1}, .operation = operation};
  RUN("binary", p, up(rows, 16), 1, 1, &a, &b, &y);
  begin("binary");
  for (int i = 0; i < rows * c; ++i) {
    double l = stored(a.bytes, i), r = stored(b.bytes, i % c);
    const double results[] = {l + r, l - r, l * r, l / r, fmax(l, r), fmin(l, r), pow(l, r), l < 0 ? l * r : l};
    compare(stored(y.bytes, i), results[operation]);
  }
  end(2e-7);
}

static void normalisations(void) {
  int rows = 18, c = 29;
  Buffer x = elements((size_t)rows * c), y = elements((size_t)rows * c), scale = floats(c), shift = floats(c);
  GraftLayerNormParams l = {.rows = rows, .channels = c, .ldx = c, .ldy = c, .hasScale = 1, .hasShift = 1, .epsilon = 1e-3f};
  RUN("layer_norm", l, up(rows, 16), 1, 1, &x, &scale, &shift, &y);
  begin("layer norm");
  for (int i = 0; i < rows * c; ++i) {
    double mean = 0, variance = 0;
    for (int j = 0; j < c; ++j) mean += stored(x.bytes, i / c * c + j) / c;
    for (int j = 0; j < c; ++j) variance += pow(stored(x.bytes, i / c * c + j) - mean, 2) / c;
    compare(stored(y.bytes, i), (stored(x.bytes, i) - mean) / sqrt(variance + 1e-3f) * at(scale, i % c) + at(shift, i % c));
  }
  end(2e-6);
  GraftLRNParams r = {.rows = rows, .channels = c, .ldx = c, .ldy = c, .size = 5, .alpha = 0.5f, .beta = 0.75f, .k = 2};
  RUN("lrn", r, up(rows, 16), 1, 1, &x, &y);
  begin("local response norm");
  for (int i = 0; i < rows * c; ++i) {
    double squares = 0;
    for (int j = i % c - 2; j <= i % c + 2; ++j)
      if (j >= 0 && j < c) squares += pow(stored(x.bytes, i / c * c + j), 2);
    compare(stored(y.bytes, i), stored(x.bytes, i) * pow(2 + 0.1 * squares, -0.75));
  }
  end(1e-6);
  // Reductions along the last dimension, and across it.
  for (int operation = GRAFT_REDUCE_MEAN; operation <= GRAFT_REDUCE_MAXIMUM; ++operation)
    for (int across = 0; across < 2; ++across) {
      int outer = across ? 1 : rows, length = across ? rows : c, inner = across ? c : 1;
      GraftReduceParams q = {.outer = outer, .length = length, .inner = inner, .ldx = inner, .ldy = inner, .operation = operation};
      RUN("reduce", q, outer, 1, 1, &x, &y);
      begin("reduce");
      for (int i = 0; i < outer * inner; ++i) {
        double sum = 0, most = -INFINITY;
        for (int j = 0; j < length; ++j) {
          double value = stored(x.bytes, across ? j * c + i : i * c + j);
          sum += value, most = fmax(most, value);
        }
        compare(stored(y.bytes, i), operation == GRAFT_REDUCE_MAXIMUM ? most : operation == GRAFT_REDUCE_MEAN ? sum / length : sum);
      }
      end(1e-6);
    }
}

/// Moving elements, with and without a change of format; the values are exact in each.
static void copies(void) {
  int rows = 18, c = 21, count = rows * c;
  Buffer wide = floats(count), narrow = elements(count), moved = elements(count), back = floats(count), bytes = buffer(count, 1);
  GraftCopyParams dense = {.rank = 2, .dims = {rows, c}, .stridesX = {c, 1}, .stridesY = {c, 1}};
  GraftCopyParams turned = {.rank = 3, .dims = {1, rows, c}, .stridesX = {count, c, 1}, .stridesY = {count, 1, rows}};
  RUN("copy_from_float", dense, up(rows, 16), 1, 1, &wide, &narrow);
  RUN("copy", dense, up(rows, 16), 1, 1, &narrow, &moved);
  RUN("copy_to_float", dense, up(rows, 16), 1, 1, &moved, &back);
  begin("copies");
  for (int i = 0; i < count; ++i) exact(at(back, i), at(wide, i));
  end(0);
  RUN("transpose_from_float", turned, up(c, 512), up(rows, 16), 1, &wide, &narrow);
  begin("transposition from float32");
  for (int i = 0; i < count; ++i) exact(stored(narrow.bytes, i), at(wide, i % rows * c + i / rows));
  end(0);
  GraftCopyParams returned = {.rank = 3, .dims = {1, c, rows}, .stridesX = {count, rows, 1}, .stridesY = {count, 1, c}};
  RUN("transpose", returned, up(rows, 512), up(c, 16), 1, &narrow, &moved);
  RUN("transpose_to_float", turned, up(c, 512), up(rows, 16), 1, &moved, &back);
  begin("transpositions");
  for (int i = 0; i < count; ++i) exact(at(back, i), at(wide, i % rows * c + i / rows));
  end(0);
  // An image's three channels.
  int pixels = count / 3;
  GraftCopyParams image = {.rank = 3, .dims = {1, 3, pixels}, .stridesX = {count, pixels, 1}, .stridesY = {count, 1, 3}};
  RUN("transpose_from_float", image, 1, 1, 1, &wide, &narrow);
  RUN("transpose", image, 1, 1, 1, &narrow, &moved);
  begin("transpositions of an image");
  for (int i = 0; i < count; ++i) {
    exact(stored(narrow.bytes, i), at(wide, i % 3 * pixels + i / 3));
    exact(stored(moved.bytes, i), stored(narrow.bytes, i % 3 * pixels + i / 3));
  }
  end(0);
  // What a format has no number for is rounded to the nearest; ties, subnormal numbers and both ends among them.
  const float odd[] = {0, 1.00048828125f, 1.0014648437f, 3.14159265f, -65504, 6.1e-5f, 5.9604645e-8f, 2.9802322e-8f, 4.5e-6f, 0.00390625f, 1.00390625f};
  const int odds = sizeof odd / sizeof *odd;
  for (int i = 0; i < count; ++i) ((float *)wide.bytes)[i] = odd[i % odds] * (i % 2 ? -1 : 1);
  RUN("copy_from_float", dense, up(rows, 16), 1, 1, &wide, &narrow);
  begin("rounding");
  Buffer expected = elements(count);
  for (int i = 0; i < count; ++i) {
    store(at(wide, i), expected.bytes, i);
    exact(stored(narrow.bytes, i), stored(expected.bytes, i));
  }
  end(0);
  GraftFillParams filling = {.count = count, .value = 0.75f};
  RUN("fill_value", filling, 1, 1, 1, &moved);
  for (int i = 0; i < count; ++i) ((unsigned char *)bytes.bytes)[i] = (unsigned char)(i * 7);
  Buffer scale = floats(3), shift = floats(3);
  GraftNormalizeParams q = {.pixels = count / 3, .channels = 3, .ldy = 3};
  RUN("normalize_image", q, 1, 1, 1, &bytes, &scale, &shift, &narrow);
  begin("fill and bytes");
  for (int i = 0; i < count; ++i) {
    compare(stored(moved.bytes, i), 0.75);
    compare(stored(narrow.bytes, i), ((unsigned char *)bytes.bytes)[i] * (double)at(scale, i % 3) + at(shift, i % 3));
  }
  end(2e-7);
}

static void classifier(void) {
  int rows = 5, classes = 37;
  Buffer x = floats((size_t)rows * classes), y = floats((size_t)rows * classes), loss = floats(rows), labels = buffer(rows, sizeof(int));
  for (int i = 0; i < rows; ++i) ((int *)labels.bytes)[i] = 7 * i;
  GraftSoftmaxParams s = {.outer = rows, .length = classes, .inner = 1};
  RUN("softmax", s, rows, 1, 1, &x, &y);
  for (int pass = 0; pass < 2; ++pass) {
    begin(pass ? "cross entropy" : "softmax");
    for (int i = 0; i < rows * classes; ++i) {
      double total = 0;
      for (int j = 0; j < classes; ++j) total += exp(at(x, i / classes * classes + j));
      int label = 7 * (i / classes);
      compare(at(y, i), exp(at(x, i)) / total - (pass && i % classes == label));
      if (pass) compare(at(loss, i / classes), log(total) - at(x, i / classes * classes + label));
    }
    end(1e-6);
    GraftCrossEntropyParams p = {.rows = rows, .classes = classes, .ldx = classes};
    RUN("cross_entropy", p, rows, 1, 1, &x, &labels, &loss, &y);
  }
}

int main(int count, char **arguments) {
  static const char *const names[] = {"baseline", "avx2", "avx512", "avx512bf16"};
  for (int i = 0; i < 4; ++i)
    if (count == 2 && !strcmp(arguments[1], names[i])) isa = (graft_isa)i, checks = -1;
  if (checks == 0 || !graft_isa_supported(isa)) {
    fprintf(stderr, "usage: family baseline|avx2|avx512|avx512bf16 (one that this processor has)\n");
    return 64;
  }
  checks = 0;
  for (storage = GRAFT_FLOAT32; storage <= GRAFT_FLOAT16; ++storage) {
    // One, two and more panels; a last one of every width; rows beyond a tile; odd and even k.
    for (int n = 1; n <= 2 * panel() + 1; n += vector() - 1) matrix_product(25 + n % 3, n, 36 + n % 2, GRAFT_ACTIVATION_RELU);
    matrix_product(1, 10, 130, GRAFT_ACTIVATION_SILU);
    const int none = GRAFT_ACTIVATION_NONE, silu = GRAFT_ACTIVATION_SILU;
    convolution("conv 3x3", (Convolution){3, 1, 1, 1, 20, none, 0, 0}, 13);
    convolution("conv 5x5, stride 2, groups", (Convolution){5, 2, 2, 2, 14, silu, 0, 0}, 10);
    convolution("depthwise 3x3", (Convolution){3, 1, 1, 19, 19, silu, 0, 0}, 19);
    convolution("depthwise 3x3, stride 2", (Convolution){3, 2, 1, 32, 32, none, 0, 0}, 32);
    convolution("depthwise 5x5", (Convolution){5, 1, 2, 16, 16, none, 0, 0}, 16);
    convolution("depthwise 7x7", (Convolution){7, 2, 3, 9, 9, none, 0, 0}, 9);
    for (int anew = 0; anew < 2; ++anew) {
      convolution("Winograd F(4x4)", (Convolution){3, 1, 1, 1, 2 * panel() + 5, none, 4, anew}, 19);
      convolution("Winograd F(2x2)", (Convolution){3, 1, 1, 1, panel() + 1, silu, 2, anew}, 17);
    }
    for (int average = 0; average < 2; ++average) pooling(average);
    for (int kind = GRAFT_ACTIVATION_NONE; kind <= GRAFT_ACTIVATION_SOFTPLUS; ++kind) activations(kind);
    for (int operation = GRAFT_BINARY_ADD; operation <= GRAFT_BINARY_PRELU; ++operation) binary(operation);
    normalisations();
    copies();
    for (int kernel = 3; kernel <= 7; kernel += 2)
      for (int stride = 1; stride <= 2; ++stride) separable(kernel, stride, kernel != 5);
    if (storage == GRAFT_FLOAT32) {
      classifier();
      for (int way = 0; way < 4; ++way) {
        product_in_place(19, 2 * panel() + 3, 2100, way & 1, way >> 1);
        product_in_place(5, vector() + 1, 37, way & 1, way >> 1);
      }
    }
  }
  printf("%s: %d comparisons, %d failed\n", graft_isa_name(isa), checks, failures);
  return failures != 0;
}
