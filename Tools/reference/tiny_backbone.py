#!/usr/bin/env python3
"""A backbone so small that an end-to-end test takes no time: two convolutions, 16 features, random weights.

    tiny_backbone.py Tests/EndToEndTests/Fixtures/tiny.onnx
    tiny_backbone.py --channels-last Tests/EndToEndTests/Fixtures/tiny-channels-last.onnx

The second has the same weights and takes images [N, H, W, 3] of any size, as TensorFlow's exporter writes them.
"""
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

random = np.random.default_rng(0)


def weights(*shape):
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


constants = {"w1": weights(8, 3, 3, 3), "b1": weights(8, 1)[:, 0], "w2": weights(16, 8, 3, 3), "b2": weights(16, 1)[:, 0], "w3": weights(4, 16), "b3": weights(4, 1)[:, 0]}
last = "--channels-last" in sys.argv
turn = [helper.make_node("Transpose", ["images"], ["image"], "turn", perm=[0, 3, 1, 2])] if last else []
given = helper.make_tensor_value_info(*(("images", TensorProto.FLOAT, ["n", "h", "w", 3]) if last else ("image", TensorProto.FLOAT, ["n", 3, 32, 32])))
graph = helper.make_graph(turn + [
    helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "conv1", strides=[2, 2], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
    helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", strides=[2, 2], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
    helper.make_node("GlobalAveragePool", ["r2"], ["pooled"], "pool"), helper.make_node("Flatten", ["pooled"], ["features"], "flatten"),
    helper.make_node("Gemm", ["features", "w3", "b3"], ["logits"], "classifier", transB=1)
], "tiny", [given], [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
    [numpy_helper.from_array(value, name) for name, value in constants.items()])
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7, producer_name="tiny_backbone.py"), sys.argv[-1])
