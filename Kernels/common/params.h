// The arguments of every kernel that are not buffers: one plain structure an operation, passed by value.
//
// Three readers share this file: OpenCL C (kernel arguments), C (the native CPU family) and Swift (which fills them in).
// So: only `int`, `float` and `graft_long`, 64-bit fields first, no pointers, no padding in the middle.
// Sizes are in elements. `ld…` is the distance between rows (pixels) of a tensor, at least its channel count, so that a
// tensor may be a slice of the channels of a wider one.
#ifndef GRAFT_PARAMS_H
#define GRAFT_PARAMS_H

#if defined(__OPENCL_VERSION__) || defined(__OPENCL_C_VERSION__)
typedef long graft_long;
#else
typedef long long graft_long;
#endif

#define GRAFT_MAX_RANK 6

// The formats of values in memory (Kernels/cpu/element.h).
#define GRAFT_FLOAT32 0
#define GRAFT_BFLOAT16 1
#define GRAFT_FLOAT16 2

// Activations, as fused into epilogues; `alpha` and `beta` are their parameters.
enum {
  GRAFT_ACTIVATION_NONE = 0,
  GRAFT_ACTIVATION_RELU = 1,
  GRAFT_ACTIVATION_CLIP = 2,          // min(max(x, alpha), beta)
  GRAFT_ACTIVATION_LEAKY_RELU = 3,    // x < 0 ? alpha x : x
  GRAFT_ACTIVATION_SIGMOID = 4,
  GRAFT_ACTIVATION_TANH = 5,
  GRAFT_ACTIVATION_HARD_SIGMOID = 6,  // min(max(alpha x + beta, 0), 1)
  GRAFT_ACTIVATION_HARD_SWISH = 7,    // x min(max(x / 6 + 1/2, 0), 1)
  GRAFT_ACTIVATION_SILU = 8,          // x sigmoid(x)
  GRAFT_ACTIVATION_GELU = 9,          // x/2 (1 + erf(x / sqrt 2))
  GRAFT_ACTIVATION_GELU_TANH = 10,    // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  GRAFT_ACTIVATION_ERF = 11,
  GRAFT_ACTIVATION_EXP = 12,
  GRAFT_ACTIVATION_LOG = 13,
  GRAFT_ACTIVATION_SQRT = 14,
  GRAFT_ACTIVATION_RECIPROCAL = 15,
  GRAFT_ACTIVATION_NEGATE = 16,
  GRAFT_ACTIVATION_ABSOLUTE = 17,
  GRAFT_ACTIVATION_ELU = 18,          // x < 0 ? alpha (exp x - 1) : x
  GRAFT_ACTIVATION_SOFTPLUS = 19,     // log(1 + exp x)
};

// Binary elementwise operations.
enum {
  GRAFT_BINARY_ADD = 0,
  GRAFT_BINARY_SUBTRACT = 1,
  GRAFT_BINARY_MULTIPLY = 2,
  GRAFT_BINARY_DIVIDE = 3,
  GRAFT_BINARY_MAXIMUM = 4,
  GRAFT_BINARY_MINIMUM = 5,
  GRAFT_BINARY_POWER = 6,
  GRAFT_BINARY_PRELU = 7,             // a < 0 ? a b : a
  GRAFT_BINARY_EQUAL = 8,             // a == b ? 1 : 0
  GRAFT_BINARY_GREATER = 9,           // a > b ? 1 : 0
  GRAFT_BINARY_MASKED = 10,           // b != 0 ? a : 0
};

// Reductions.
enum {
  GRAFT_REDUCE_MEAN = 0,
  GRAFT_REDUCE_SUM = 1,
  GRAFT_REDUCE_MAXIMUM = 2,
};

// What happens to a sum before it is stored: y = activation(sum + bias[channel] + residual[row, channel]).
typedef struct {
  int activation;
  float alpha, beta;
  int hasBias, hasResidual;
} GraftEpilogue;

// y[b] = epilogue(op(a[b]) op(b[b])), a: [m, k] (or [k, m] if transposeA), b: [k, n] (or [n, k] if transposeB), y: [m, n].
typedef struct {
  graft_long strideA, strideB, strideY, strideR;  // between the matrices of a batch; 0 repeats one
  int batch, m, n, k;
  int lda, ldb, ldy, ldr;
  int transposeA, transposeB;           // gemm of the CPU family: b is packed and a a copy, so neither is transposed
  int rowsPerItem, panelsPerItem;       // CPU family: a work-item's share
  GraftEpilogue epilogue;
} GraftGemmParams;

// x: [n, h, w, c], y: [n, oh, ow, oc]; weights in the family's own packing; padding is what lies before the first row and column.
typedef struct {
  int n, h, w, c;
  int oh, ow, oc;
  int kh, kw, strideH, strideW, padH, padW, dilationH, dilationW, groups;
  int ldx, ldy, ldr;
  int joinsTaps;                        // CPU family: taps beside each other may be read as one (dense pixels, weights without gaps)
  int rowsPerItem, panelsPerItem;       // CPU family: a work-item's share
  GraftEpilogue epilogue;
} GraftConvParams;

// A depthwise convolution between two pointwise ones (Kernels/cpu/separable.cl). x: [n, h, w, c], expanded to e channels; y: [n, oh, ow, oc].
typedef struct {
  graft_long scratchPerItem;            // elements
  int n, h, w, c, e;
  int oh, ow, oc;
  int kh, kw, strideH, strideW, padH, padW;
  int ldx, ldy, ldr;
  int hasExpansion;                     // else e is c
  int rowsPerStep;                      // rows of y at a time
  int ringRows, ringWidth, ringStride;  // rows of expanded pixels that are kept, pixels of each with its padding, elements of each
  int items;                            // work-items
  GraftEpilogue expansion, depthwise, projection;
} GraftSeparableParams;

// A 3×3 convolution at stride 1 by tiles (Kernels/*/winograd.cl): tiles firstTile … of those of all images, a row at a time.
typedef struct {
  int n, h, w, c;
  int oh, ow, oc;
  int padH, padW;
  int ldx, ldy, ldr;
  int tilesH, tilesW;                   // tiles of an image
  int firstTile, tileCount;
  int firstOutput, outputCount;         // CPU family: the output channels computed at a time, of oc; firstOutput begins a panel
  int weightStep;                       // CPU family: from one of the transformed weights' matrices to the next
  GraftEpilogue epilogue;
} GraftWinogradParams;

// Weights [oc, c/groups, kh, kw] (PyTorch's order), or a matrix [k, n] as strides, into a family's packing.
typedef struct {
  graft_long strideBatch;               // between source matrices of a batch
  int batch, groups, oc, c, taps;       // oc and c a group; taps = kh kw (1 for a matrix)
  int strideO, strideC, strideTap;      // source strides within a group
  int strideGroup;                      // source stride between groups
} GraftPackParams;

typedef struct {
  int n, h, w, c;
  int oh, ow;
  int kh, kw, strideH, strideW, padH, padW, dilationH, dilationW;
  int ldx, ldy;
  int average;                          // 0: maximum, 1: average
  int countsPadding;                    // average: the divisor counts padded positions up to padEndH/W
  int padEndH, padEndW;                 // padding after the last row and column, for that count
} GraftPoolParams;

// y[i] = activation(op(a[i], b[i])) over `dims`; stride 0 repeats an operand.
typedef struct {
  int rank;
  int dims[GRAFT_MAX_RANK], stridesA[GRAFT_MAX_RANK], stridesB[GRAFT_MAX_RANK], stridesY[GRAFT_MAX_RANK];
  int operation;
  GraftEpilogue epilogue;
} GraftBinaryParams;

// y[row, channel] = activation(x[row, channel]); with scale and shift: activation(x scale[channel] + shift[channel]).
typedef struct {
  graft_long rows;
  int channels, ldx, ldy;
  int hasScale, hasShift;
  GraftEpilogue epilogue;
} GraftUnaryParams;

// A strided copy of a block: transposition, slice, one part of a concatenation, expansion (stride 0), the inside of a pad.
typedef struct {
  graft_long offsetX, offsetY;
  int rank;
  int dims[GRAFT_MAX_RANK], stridesX[GRAFT_MAX_RANK], stridesY[GRAFT_MAX_RANK];
} GraftCopyParams;

typedef struct {
  graft_long count;
  float value;
} GraftFillParams;

// x and y: [outer, length, inner]; softmax over length.
typedef struct {
  int outer, length, inner;
  int logarithm;
} GraftSoftmaxParams;

// x: [outer, length, inner] with rows of `inner` that lie ldx apart, y: [outer, inner].
typedef struct {
  int outer, length, inner, ldx, ldy;
  int operation;
} GraftReduceParams;

// Rows [rows, channels] of one or two tensors, by channels: sums over them, or y = a scaleA[c] + b scaleB[c] + shift[c].
typedef struct {
  graft_long rows, rowsPerPart;
  int channels, lda, ldb, ldy;
} GraftChannelParams;

// The `count` greatest of each row of [rows, columns].
typedef struct {
  graft_long rows;
  int columns, count;
} GraftTopKParams;

// Local response normalisation across channels: y = x / (k + alpha/size sum x^2)^beta, over `size` neighbouring channels.
typedef struct {
  graft_long rows;
  int channels, ldx, ldy, size;
  float alpha, beta, k;
} GraftLRNParams;

// y = (x - mean) / sqrt(variance + epsilon) scale[c] + shift[c], statistics over the channels of a row.
typedef struct {
  graft_long rows;
  int channels, ldx, ldy;
  int hasScale, hasShift;
  float epsilon;
} GraftLayerNormParams;

// Bytes [pixels, channels] into floats: y = x scale[channel] + shift[channel].
typedef struct {
  graft_long pixels;
  int channels, ldy;
} GraftNormalizeParams;

// loss[row] = -log softmax(logits[row])[label]; gradient[row] = (softmax - onehot) upstream[row].
typedef struct {
  int rows, classes, ldx;
} GraftCrossEntropyParams;

enum { GRAFT_LOSS_CROSS_ENTROPY = 0, GRAFT_LOSS_SIGMOID = 1, GRAFT_LOSS_SQUARED = 2, GRAFT_LOSS_HUBER = 3 };

// The loss of each row of outputs against targets of the same shape; `delta` is where Huber's becomes a straight line.
typedef struct {
  int rows, classes, kind;
  float delta;
} GraftLossParams;

// Sums of squares of `count` elements, in parts whose sums lie from `firstPart` on.
typedef struct {
  graft_long count, partLength, firstPart;
} GraftSquareSumParams;

enum { GRAFT_OPTIMIZER_SGD = 0, GRAFT_OPTIMIZER_ADAMW = 1 };

// Where an optimiser's step finds its numbers, which change from step to step.
enum {
  GRAFT_RATE_LEARNING = 0,
  GRAFT_RATE_WEIGHT_DECAY = 1,
  GRAFT_RATE_BETA1 = 2,               // SGD's momentum
  GRAFT_RATE_BETA2 = 3,
  GRAFT_RATE_EPSILON = 4,
  GRAFT_RATE_CORRECTION1 = 5,         // 1 - beta1^step
  GRAFT_RATE_CORRECTION2 = 6,
  GRAFT_RATE_GRADIENT = 7,            // what gradients are multiplied by: undoes the loss's scale
  GRAFT_RATE_NORM_LIMIT = 8,          // the most the norm of all gradients may be; 0: no limit
  GRAFT_RATE_APPLIES = 9,             // 0: gradients are only gathered
  GRAFT_RATE_COUNT = 10,
};

// `count` numbers of a parameter and its state.
typedef struct {
  graft_long count;
  int kind, nesterov, decays;
  float rateScale;                      // the parameter's share of the learning rate
} GraftOptimizerParams;

// Most vectors that one launch of Kernels/*/vectors.cl adds up, or pairs that it multiplies.
enum { GRAFT_VECTOR_TERMS = 32 };

// y = factor x + sum over t of factors[t] row rows[t]. Row r begins at element r stride of a matrix.
typedef struct {
  graft_long count, stride;             // elements of a vector
  graft_long from, fromX, fromY;        // the first of a row's, of x and of y
  int terms;
  float factor;                         // of x; 0: x is not read
  int rows[GRAFT_VECTOR_TERMS];
  float factors[GRAFT_VECTOR_TERMS];
} GraftVectorSumParams;

enum { GRAFT_VECTOR_DOT = 0, GRAFT_VECTOR_MAXIMUM = 1, GRAFT_VECTOR_MAGNITUDE = 2 };

// Of each pair of rows their product, or of its first row the largest magnitude or the sum of magnitudes, in parts.
typedef struct {
  graft_long count, stride, partLength; // elements of a vector and of a part
  int pairs, parts;
  int kinds[GRAFT_VECTOR_TERMS], first[GRAFT_VECTOR_TERMS], second[GRAFT_VECTOR_TERMS];
} GraftVectorDotParams;

// How the heads of an operand of attention lie: element (t, d) of head h of image b at  b image + h head + t token + offset + d.
typedef struct {
  int image, head, token, offset;
} GraftHeads;

// y = softmax(scale q k^T + mask) v for each head (Kernels/*/attention.cl).
typedef struct {
  GraftHeads q, k, v, y;
  int batch, heads, queries, keys, size;  // size: of a head
  int hasMask;
  int maskImages;                               // the mask is of so many images, and again of as many after them
  int maskImage, maskHead, maskQuery, maskKey;  // strides of the mask; 0 repeats it
  int rowsPerItem;                      // CPU family: queries (keys) of a work-item
  float scale;
} GraftAttentionParams;

// Its gradients; y and its gradient lie in the same way.
typedef struct {
  GraftAttentionParams forward;
  GraftHeads dq, dk, dv;
} GraftAttentionGradientParams;

// The device's limits: multiply-adds in registers, sums and triads over memory.
typedef struct {
  graft_long count;                     // floats of an array; in the CPU family, of a work-item's share of it
  int repeats;                          // times a work-item does the same again
  float factor, term;                   // x factor + term; a = b + factor c
} GraftPeakParams;

#endif
