// The kernel sources, embedded: one entry a file of `Kernels/`, sorted by path. A test compares this table with the folder.
#include "COpenCL.h"

#include <stddef.h>
#include <string.h>

// `#embed` is of C23, and looks beside this file rather than in the search path of headers.
#pragma clang diagnostic ignored "-Wc23-extensions"

typedef struct {
  const char *path;
  const char *text;
} KernelSource;

static const KernelSource sources[] = {
  {"common/dialect.h", (const char[]){
#embed "../../Kernels/common/dialect.h" suffix(, 0)
  }},
  {"common/params.h", (const char[]){
#embed "../../Kernels/common/params.h" suffix(, 0)
  }},
  {"common/winograd.h", (const char[]){
#embed "../../Kernels/common/winograd.h" suffix(, 0)
  }},
  {"cpu/attention.cl", (const char[]){
#embed "../../Kernels/cpu/attention.cl" suffix(, 0)
  }},
  {"cpu/conv.cl", (const char[]){
#embed "../../Kernels/cpu/conv.cl" suffix(, 0)
  }},
  {"cpu/conv_weights.cl", (const char[]){
#embed "../../Kernels/cpu/conv_weights.cl" suffix(, 0)
  }},
  {"cpu/copy.cl", (const char[]){
#embed "../../Kernels/cpu/copy.cl" suffix(, 0)
  }},
  {"cpu/depthwise.cl", (const char[]){
#embed "../../Kernels/cpu/depthwise.cl" suffix(, 0)
  }},
  {"cpu/element.h", (const char[]){
#embed "../../Kernels/cpu/element.h" suffix(, 0)
  }},
  {"cpu/elementwise.cl", (const char[]){
#embed "../../Kernels/cpu/elementwise.cl" suffix(, 0)
  }},
  {"cpu/gemm.cl", (const char[]){
#embed "../../Kernels/cpu/gemm.cl" suffix(, 0)
  }},
  {"cpu/gemm_tile.h", (const char[]){
#embed "../../Kernels/cpu/gemm_tile.h" suffix(, 0)
  }},
  {"cpu/gradient.cl", (const char[]){
#embed "../../Kernels/cpu/gradient.cl" suffix(, 0)
  }},
  {"cpu/math.h", (const char[]){
#embed "../../Kernels/cpu/math.h" suffix(, 0)
  }},
  {"cpu/norm.cl", (const char[]){
#embed "../../Kernels/cpu/norm.cl" suffix(, 0)
  }},
  {"cpu/optimizer.cl", (const char[]){
#embed "../../Kernels/cpu/optimizer.cl" suffix(, 0)
  }},
  {"cpu/pack.cl", (const char[]){
#embed "../../Kernels/cpu/pack.cl" suffix(, 0)
  }},
  {"cpu/peak.cl", (const char[]){
#embed "../../Kernels/cpu/peak.cl" suffix(, 0)
  }},
  {"cpu/pool.cl", (const char[]){
#embed "../../Kernels/cpu/pool.cl" suffix(, 0)
  }},
  {"cpu/product.cl", (const char[]){
#embed "../../Kernels/cpu/product.cl" suffix(, 0)
  }},
  {"cpu/reduce.cl", (const char[]){
#embed "../../Kernels/cpu/reduce.cl" suffix(, 0)
  }},
  {"cpu/separable.cl", (const char[]){
#embed "../../Kernels/cpu/separable.cl" suffix(, 0)
  }},
  {"cpu/softmax.cl", (const char[]){
#embed "../../Kernels/cpu/softmax.cl" suffix(, 0)
  }},
  {"cpu/square.h", (const char[]){
#embed "../../Kernels/cpu/square.h" suffix(, 0)
  }},
  {"cpu/tile.h", (const char[]){
#embed "../../Kernels/cpu/tile.h" suffix(, 0)
  }},
  {"cpu/topk.cl", (const char[]){
#embed "../../Kernels/cpu/topk.cl" suffix(, 0)
  }},
  {"cpu/vectors.cl", (const char[]){
#embed "../../Kernels/cpu/vectors.cl" suffix(, 0)
  }},
  {"cpu/winograd.cl", (const char[]){
#embed "../../Kernels/cpu/winograd.cl" suffix(, 0)
  }},
  {"gpu/activation.h", (const char[]){
#embed "../../Kernels/gpu/activation.h" suffix(, 0)
  }},
  {"gpu/attention.cl", (const char[]){
#embed "../../Kernels/gpu/attention.cl" suffix(, 0)
  }},
  {"gpu/attention_gradient_keys.cl", (const char[]){
#embed "../../Kernels/gpu/attention_gradient_keys.cl" suffix(, 0)
  }},
  {"gpu/attention_gradient_queries.cl", (const char[]){
#embed "../../Kernels/gpu/attention_gradient_queries.cl" suffix(, 0)
  }},
  {"gpu/attention_gradient_values.cl", (const char[]){
#embed "../../Kernels/gpu/attention_gradient_values.cl" suffix(, 0)
  }},
  {"gpu/attention_tile.h", (const char[]){
#embed "../../Kernels/gpu/attention_tile.h" suffix(, 0)
  }},
  {"gpu/blocks.h", (const char[]){
#embed "../../Kernels/gpu/blocks.h" suffix(, 0)
  }},
  {"gpu/conv.cl", (const char[]){
#embed "../../Kernels/gpu/conv.cl" suffix(, 0)
  }},
  {"gpu/conv_weights.cl", (const char[]){
#embed "../../Kernels/gpu/conv_weights.cl" suffix(, 0)
  }},
  {"gpu/copy.cl", (const char[]){
#embed "../../Kernels/gpu/copy.cl" suffix(, 0)
  }},
  {"gpu/depthwise.cl", (const char[]){
#embed "../../Kernels/gpu/depthwise.cl" suffix(, 0)
  }},
  {"gpu/element.h", (const char[]){
#embed "../../Kernels/gpu/element.h" suffix(, 0)
  }},
  {"gpu/elementwise.cl", (const char[]){
#embed "../../Kernels/gpu/elementwise.cl" suffix(, 0)
  }},
  {"gpu/gemm.cl", (const char[]){
#embed "../../Kernels/gpu/gemm.cl" suffix(, 0)
  }},
  {"gpu/gradient.cl", (const char[]){
#embed "../../Kernels/gpu/gradient.cl" suffix(, 0)
  }},
  {"gpu/matrix_amd.h", (const char[]){
#embed "../../Kernels/gpu/matrix_amd.h" suffix(, 0)
  }},
  {"gpu/matrix_attention.cl", (const char[]){
#embed "../../Kernels/gpu/matrix_attention.cl" suffix(, 0)
  }},
  {"gpu/matrix_attention.h", (const char[]){
#embed "../../Kernels/gpu/matrix_attention.h" suffix(, 0)
  }},
  {"gpu/matrix_attention_gradient.h", (const char[]){
#embed "../../Kernels/gpu/matrix_attention_gradient.h" suffix(, 0)
  }},
  {"gpu/matrix_attention_gradient_keys.cl", (const char[]){
#embed "../../Kernels/gpu/matrix_attention_gradient_keys.cl" suffix(, 0)
  }},
  {"gpu/matrix_attention_gradient_queries.cl", (const char[]){
#embed "../../Kernels/gpu/matrix_attention_gradient_queries.cl" suffix(, 0)
  }},
  {"gpu/matrix_attention_gradient_values.cl", (const char[]){
#embed "../../Kernels/gpu/matrix_attention_gradient_values.cl" suffix(, 0)
  }},
  {"gpu/matrix_block.h", (const char[]){
#embed "../../Kernels/gpu/matrix_block.h" suffix(, 0)
  }},
  {"gpu/matrix_chunk.h", (const char[]){
#embed "../../Kernels/gpu/matrix_chunk.h" suffix(, 0)
  }},
  {"gpu/matrix_conv.cl", (const char[]){
#embed "../../Kernels/gpu/matrix_conv.cl" suffix(, 0)
  }},
  {"gpu/matrix_emulated.h", (const char[]){
#embed "../../Kernels/gpu/matrix_emulated.h" suffix(, 0)
  }},
  {"gpu/matrix_gemm.cl", (const char[]){
#embed "../../Kernels/gpu/matrix_gemm.cl" suffix(, 0)
  }},
  {"gpu/matrix_group.h", (const char[]){
#embed "../../Kernels/gpu/matrix_group.h" suffix(, 0)
  }},
  {"gpu/matrix_intel.h", (const char[]){
#embed "../../Kernels/gpu/matrix_intel.h" suffix(, 0)
  }},
  {"gpu/matrix_multiply.h", (const char[]){
#embed "../../Kernels/gpu/matrix_multiply.h" suffix(, 0)
  }},
  {"gpu/matrix_nvidia.h", (const char[]){
#embed "../../Kernels/gpu/matrix_nvidia.h" suffix(, 0)
  }},
  {"gpu/matrix_store.h", (const char[]){
#embed "../../Kernels/gpu/matrix_store.h" suffix(, 0)
  }},
  {"gpu/matrix_tile.h", (const char[]){
#embed "../../Kernels/gpu/matrix_tile.h" suffix(, 0)
  }},
  {"gpu/matrix_unit.h", (const char[]){
#embed "../../Kernels/gpu/matrix_unit.h" suffix(, 0)
  }},
  {"gpu/matrix_weights.cl", (const char[]){
#embed "../../Kernels/gpu/matrix_weights.cl" suffix(, 0)
  }},
  {"gpu/naive.cl", (const char[]){
#embed "../../Kernels/gpu/naive.cl" suffix(, 0)
  }},
  {"gpu/norm.cl", (const char[]){
#embed "../../Kernels/gpu/norm.cl" suffix(, 0)
  }},
  {"gpu/optimizer.cl", (const char[]){
#embed "../../Kernels/gpu/optimizer.cl" suffix(, 0)
  }},
  {"gpu/pack.cl", (const char[]){
#embed "../../Kernels/gpu/pack.cl" suffix(, 0)
  }},
  {"gpu/peak.cl", (const char[]){
#embed "../../Kernels/gpu/peak.cl" suffix(, 0)
  }},
  {"gpu/pool.cl", (const char[]){
#embed "../../Kernels/gpu/pool.cl" suffix(, 0)
  }},
  {"gpu/reduce.cl", (const char[]){
#embed "../../Kernels/gpu/reduce.cl" suffix(, 0)
  }},
  {"gpu/rows.h", (const char[]){
#embed "../../Kernels/gpu/rows.h" suffix(, 0)
  }},
  {"gpu/skinny.cl", (const char[]){
#embed "../../Kernels/gpu/skinny.cl" suffix(, 0)
  }},
  {"gpu/softmax.cl", (const char[]){
#embed "../../Kernels/gpu/softmax.cl" suffix(, 0)
  }},
  {"gpu/split_sum.cl", (const char[]){
#embed "../../Kernels/gpu/split_sum.cl" suffix(, 0)
  }},
  {"gpu/tile.h", (const char[]){
#embed "../../Kernels/gpu/tile.h" suffix(, 0)
  }},
  {"gpu/topk.cl", (const char[]){
#embed "../../Kernels/gpu/topk.cl" suffix(, 0)
  }},
  {"gpu/vectors.cl", (const char[]){
#embed "../../Kernels/gpu/vectors.cl" suffix(, 0)
  }},
  {"gpu/winograd.cl", (const char[]){
#embed "../../Kernels/gpu/winograd.cl" suffix(, 0)
  }},
};

static const int source_count = sizeof sources / sizeof sources[0];

int graft_kernel_source_count(void) { return source_count; }

const char *graft_kernel_source_path(int index) { return index >= 0 && index < source_count ? sources[index].path : NULL; }

const char *graft_kernel_source(const char *path) {
  for (int i = 0; i < source_count; i++) {
    if (strcmp(sources[i].path, path) == 0) return sources[i].text;
  }
  return NULL;
}
