#!/usr/bin/env python3
"""Tiny ONNX models, one an operator and a form of its attributes, and what ONNX Runtime computes with them.

Writes FOLDER/NAME.onnx, and FOLDER/expected.safetensors with the tensors NAME.input and NAME.output. The folder of the
tests is Tests/GraftBackbonesTests/Fixtures/operators. Models under `refused` have no expected tensors: they must be errors.

    onnx_models.py FOLDER
"""
import json
import pathlib
import struct
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

# IR versions that came with the opsets; older runtimes read them so.
IR_VERSION = {7: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
random = np.random.default_rng(0)
tensors = {}


def weights(*shape):
    return random.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def node(kind, inputs="x", outputs="y", name=None, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), name=name or f"{kind} to {outputs}", **attributes)


def names_read(nodes):
    """By the nodes, and by those of the graphs inside them."""
    inner = [attribute.g.node for node in nodes for attribute in node.attribute if attribute.HasField("g")]
    return {name for node in nodes for name in node.input}.union(*map(names_read, inner))


def model(nodes, opset, shape, constants, output="y", domains=(), kind=TensorProto.FLOAT):
    read = names_read(nodes)
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, kind, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in read])
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(domain, 1) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION[opset], producer_name="onnx_models.py")


def case(name, opset, nodes, shape, low=-2.0, high=2.0, kind=TensorProto.FLOAT, **constants):
    """Constants named other than x are initializers."""
    made = model(nodes if isinstance(nodes, list) else [nodes], opset, shape, constants, kind=kind)
    path = folder / f"{name}.onnx"
    path.write_bytes(made.SerializeToString())
    x = random.uniform(low, high, shape).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    tensors[f"{name}.input"], tensors[f"{name}.output"] = x, session.run(None, {"x": x})[0].astype(np.float32)


def refused(name, opset, nodes, shape, domains=(), **constants):
    nodes = nodes if isinstance(nodes, list) else [nodes]
    (folder / f"refused-{name}.onnx").write_bytes(model(nodes, opset, shape, constants, domains=domains).SerializeToString())


image = (2, 3, 7, 6)

# Convolution and pooling.
case("conv-7", 7, node("Conv", "x w b", pads=[1, 1, 1, 1]), image, w=weights(4, 3, 3, 3), b=weights(4))
case("conv-same-upper", 11, node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2]), image, w=weights(2, 3, 4, 3))
case("conv-same-lower", 11, node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 1]), image, w=weights(2, 3, 4, 2))
case("conv-valid", 11, node("Conv", "x w", auto_pad="VALID"), image, w=weights(2, 3, 2, 3))
case("conv-dilated", 21, node("Conv", "x w", dilations=[2, 1], pads=[2, 0, 2, 0]), image, w=weights(2, 3, 3, 3))
case("conv-groups", 13, node("Conv", "x w b", group=2, kernel_shape=[3, 3]), (1, 4, 5, 5), w=weights(6, 2, 3, 3), b=weights(6))
case("conv-depthwise", 13, node("Conv", "x w", group=5, pads=[1, 1, 1, 1]), (1, 5, 6, 6), w=weights(5, 1, 3, 3))
case("conv-asymmetric", 13, node("Conv", "x w", pads=[0, 1, 2, 3], strides=[2, 2]), image, w=weights(2, 3, 3, 3))
case("maxpool-7", 7, node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), image)
case("maxpool-ceil", 10, node("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), image)
case("maxpool-dilated", 12, node("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), image)
case("maxpool-same", 12, node("MaxPool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"), image)
case("avgpool-7", 7, node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), image)
case("avgpool-counted", 7, node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1), image)
case("avgpool-ceil", 19, node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1), (1, 2, 6, 6))
case("avgpool-ceil-counted", 19,
     node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1), (1, 2, 6, 6))
case("avgpool-same-lower", 11, node("AveragePool", kernel_shape=[2, 2], strides=[1, 1], auto_pad="SAME_LOWER"), image)
case("global-average", 7, node("GlobalAveragePool"), image)
case("global-max", 7, node("GlobalMaxPool"), image)

# Normalisation.
statistics = dict(s=weights(3), b=weights(3), m=weights(3), v=np.abs(weights(3)) + 0.1)
case("batchnorm-7", 7, node("BatchNormalization", "x s b m v", epsilon=1e-3), image, **statistics)
case("batchnorm-9", 9, node("BatchNormalization", "x s b m v"), image, **statistics)
case("batchnorm-15", 15, node("BatchNormalization", "x s b m v", training_mode=0), (4, 3), **statistics)
case("lrn", 13, node("LRN", size=3, alpha=0.5, beta=0.6, bias=2.0), (1, 7, 3, 3))
case("layernorm", 17, node("LayerNormalization", "x s b", epsilon=1e-3), (2, 3, 8), s=weights(8), b=weights(8))
case("layernorm-axis", 17, node("LayerNormalization", "x s", axis=1), (2, 3, 4), s=weights(3, 4))

# Functions of one element.
for kind, opset, attributes in [
    ("Relu", 7, {}), ("Sigmoid", 13, {}), ("Tanh", 13, {}), ("Erf", 9, {}), ("Exp", 13, {}), ("Neg", 13, {}), ("Abs", 13, {}), ("Softplus", 7, {}),
    ("HardSwish", 14, {}), ("LeakyRelu", 7, {"alpha": 0.2}), ("LeakyRelu", 15, {}), ("Elu", 7, {"alpha": 0.7}), ("HardSigmoid", 7, {}),
    ("HardSigmoid", 13, {"alpha": 0.3, "beta": 0.4}), ("Gelu", 20, {}), ("Gelu", 21, {"approximate": "tanh"}), ("Identity", 7, {})
]:
    case(f"{kind.lower()}-{opset}", opset, node(kind, **attributes), (3, 11), -5, 5)
for kind in ["Log", "Sqrt", "Reciprocal"]:
    case(kind.lower(), 13, node(kind), (3, 11), 0.05, 9)
case("clip-7", 7, node("Clip", min=-0.5, max=1.0), (3, 11))
case("clip-11", 11, node("Clip", "x least most"), (3, 11), least=np.float32(-1), most=np.float32(0.25))
case("clip-13-max", 13, helper.make_node("Clip", ["x", "", "most"], ["y"]), (3, 11), most=np.float32(0.25))
case("clip-13-none", 13, node("Clip"), (3, 11))
case("prelu-7", 7, node("PRelu", "x s"), image, s=weights(3, 1, 1))
case("prelu-15", 15, node("PRelu", "x s"), image, s=weights(1))
case("dropout-7", 7, node("Dropout", ratio=0.3), (3, 11))
case("dropout-13", 13, node("Dropout", "x r"), (3, 11), r=np.float32(0.3))
case("cast", 13, [node("Cast", "x", "d", to=TensorProto.DOUBLE), node("Cast", "d", "y", to=TensorProto.FLOAT)], (3, 5))

# Two tensors and more.
for kind in ["Add", "Sub", "Mul", "Div"]:
    case(f"{kind.lower()}-broadcast", 7, node(kind, "x c"), image, c=np.abs(weights(3, 1, 1)) + 0.5)
case("sub-swapped", 13, node("Sub", "c x"), image, c=weights(1, 3, 7, 1))
case("div-swapped", 13, node("Div", "c x"), (3, 5), 0.5, 2, c=weights(5))
case("pow", 13, node("Pow", "x c"), (3, 5), 0.5, 2, c=np.float32(1.7))
case("pow-integer", 15, node("Pow", "x c"), (3, 5), c=ints(3))
for kind in ["Sum", "Max", "Min", "Mean"]:
    case(f"{kind.lower()}-three", 13,
         [node("Neg", "x", "n"), node(kind, "x c n")], (3, 5), c=weights(5))
case("softmax-7", 7, node("Softmax"), (2, 3, 4))
case("softmax-7-axis", 7, node("Softmax", axis=2), (2, 3, 4))
case("softmax-13", 13, node("Softmax"), (2, 3, 4))
case("softmax-13-axis", 13, node("Softmax", axis=1), (2, 3, 4, 2))
case("logsoftmax-11", 11, node("LogSoftmax", axis=1), (2, 3, 4))
case("logsoftmax-13", 13, node("LogSoftmax", axis=-2), (2, 3, 4))
case("matmul-batched", 13, node("MatMul", "x w"), (2, 3, 4, 5), w=weights(5, 6))
case("matmul-broadcast", 13, node("MatMul", "x w"), (2, 1, 4, 5), w=weights(3, 5, 2))
case("matmul-vector", 13, node("MatMul", "x w"), (4, 5), w=weights(5))
case("matmul-vector-first", 13, node("MatMul", "w x"), (3, 4, 5), w=weights(4))
case("gemm-7", 7, node("Gemm", "x w c", alpha=0.5, beta=2.0, transB=1), (3, 5), w=weights(4, 5), c=weights(4))
case("gemm-13-no-c", 13, node("Gemm", "x w", transA=1), (5, 3), w=weights(5, 4))
case("gemm-column-c", 13, node("Gemm", "x w c"), (3, 5), w=weights(5, 4), c=weights(3, 1))

# Movement.
case("reshape-zero", 7, node("Reshape", "x s"), (2, 3, 4), s=ints(0, -1))
case("reshape-allowzero", 14, node("Reshape", "x s", allowzero=1), (2, 3, 4), s=ints(4, 6))
for axis, opset in [(0, 7), (2, 9), (3, 9), (-1, 11)]:
    case(f"flatten-{axis}", opset, node("Flatten", axis=axis), (2, 3, 4))
case("squeeze-7", 7, node("Squeeze", axes=[2, 3]), (2, 3, 1, 1))
case("squeeze-11-negative", 11, node("Squeeze", axes=[-1]), (2, 1, 3, 1))
case("squeeze-13", 13, node("Squeeze", "x a"), (2, 1, 3, 1), a=ints(1))
case("squeeze-13-all", 13, node("Squeeze"), (2, 1, 3, 1))
case("unsqueeze-7", 7, node("Unsqueeze", axes=[0, 3]), (2, 3))
case("unsqueeze-13", 13, node("Unsqueeze", "x a"), (2, 3), a=ints(-1, 1))
case("transpose", 7, node("Transpose", perm=[2, 0, 3, 1]), (2, 3, 4, 5))
case("transpose-default", 13, node("Transpose"), (2, 3, 4))
case("concat-7", 7, node("Concat", "x c x", axis=1), (2, 3, 2), c=weights(2, 1, 2))
case("concat-11-negative", 11, node("Concat", "x c", axis=-1), (2, 3, 2), c=weights(2, 3, 4))
case("split-7", 7, [node("Split", "x", "a b", axis=1, split=[1, 3]), node("Concat", "b a", axis=1)], (2, 4, 2))
case("split-11-equal", 11, [node("Split", "x", "a b", axis=-1), node("Sub", "b a")], (2, 4))
case("split-13", 13, [node("Split", "x s", "a b", axis=1), node("Concat", "b a", axis=1)], (2, 4, 2), s=ints(3, 1))
case("split-18", 18, [node("Split", "x", "a b c", axis=0, num_outputs=3), node("Concat", "c b a", axis=0)], (7, 2))
case("slice-7", 7, node("Slice", axes=[1, 2], starts=[1, -3], ends=[3, 1000]), (2, 4, 5))
case("slice-10", 10, node("Slice", "x s e a t"), (2, 4, 5), s=ints(0, 4), e=ints(4, -1000), a=ints(1, 2), t=ints(2, -1))
case("slice-13-end", 13, node("Slice", "x s e a"), (2, 4, 5), s=ints(-2), e=ints(2**63 - 1), a=ints(-1))
case("slice-13-backwards", 13, node("Slice", "x s e a t"), (7, 3), s=ints(2**63 - 1), e=ints(-2**63), a=ints(0), t=ints(-3))
case("gather", 13, node("Gather", "x i", axis=1), (2, 4, 3), i=ints(2, 0, -1))
case("gather-scalar", 13, node("Gather", "x i", axis=2), (2, 4, 3), i=np.array(1, np.int64))
case("pad-7", 7, node("Pad", pads=[0, 0, 1, 2, 0, 0, 3, 0], value=0.5), image)
case("pad-11", 11, node("Pad", "x p v"), image, p=ints(0, 0, 1, 2, 0, 1, 0, 3), v=np.float32(-1))
case("pad-13-negative", 13, node("Pad", "x p"), image, p=ints(0, 0, -1, 2, 0, 0, 1, -2))
case("pad-18-axes", 18, helper.make_node("Pad", ["x", "p", "", "a"], ["y"]), image, p=ints(1, 2, 0, 1), a=ints(3, -2))
case("expand", 9, node("Expand", "x s"), (3, 1), s=ints(2, 1, 4))
for kind in ["ReduceMean", "ReduceSum", "ReduceMax"]:
    name = kind.lower()
    case(f"{name}-7", 7, node(kind, axes=[2, 3], keepdims=0), image)
    case(f"{name}-11-negative", 11, node(kind, axes=[-1]), image)
    case(f"{name}-18", 18, node(kind, "x a"), image, a=ints(1))
    case(f"{name}-18-apart", 18, node(kind, "x a", keepdims=0), image, a=ints(1, 3))
case("reducesum-13", 13, node("ReduceSum", "x a", keepdims=0), image, a=ints(0))
case("reducemean-all", 13, node("ReduceMean", keepdims=0), image)
case("reducesum-noop", 13, node("ReduceSum", noop_with_empty_axes=1), (2, 3))

# Arithmetic of shapes.
case("shape-reshape-9", 9, [
    node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Unsqueeze", "n", "n1", axes=[0]), node("Concat", "n1 rest", "to", axis=0),
    node("Reshape", "x to")
], image, zero=np.array(0, np.int64), rest=ints(-1))
case("shape-reshape-13", 13, [
    node("Shape", "x", "s"), node("Slice", "s two four", "hw"), node("Gather", "hw zero", "h"),
    node("Gather", "hw one", "w"), node("Mul", "h w", "p"), node("Unsqueeze", "p axis", "p1"), node("Concat", "free p1", "to", axis=0),
    node("Reshape", "x to")
], image, two=ints(2), four=ints(4), zero=np.array(0, np.int64), one=np.array(1, np.int64), axis=ints(0), free=ints(-1))
case("shape-slice-15", 15, [node("Shape", "x", "s", start=-2), node("ConstantOfShape", "s", "ones", value=numpy_helper.from_array(np.ones(1, np.float32))),
                            node("Add", "x ones")], image)
case("shape-cast-13", 13, [
    node("Shape", "x", "s"), node("Cast", "s", "f", to=TensorProto.FLOAT), node("Div", "f two", "half"), node("Cast", "half", "to", to=TensorProto.INT64),
    node("Slice", "x starts to axes")
], (4, 6), two=np.float32(2), starts=ints(0, 0), axes=ints(0, 1))
case("constant-forms", 13, [
    helper.make_node("Constant", [], ["a"], value_float=1.5), helper.make_node("Constant", [], ["b"], value_floats=[1.0, 2.0, 3.0]),
    helper.make_node("Constant", [], ["c"], value_ints=[3, 2]), node("Mul", "x a", "m"), node("Add", "m b", "n"), node("Reshape", "n c")
], (2, 3))

# Together.
case("shuffle", 13, [
    node("Conv", "x w", "c", group=2), node("Reshape", "c five", "r"), node("Transpose", "r", "t", perm=[0, 2, 1, 3, 4]), node("Reshape", "t four", "u"),
    node("Relu", "u", "v"), node("Conv", "v w", "d", group=2), node("Add", "d x", "e"), node("GlobalAveragePool", "e", "g"), node("Flatten", "g")
], (2, 6, 4, 5), w=weights(6, 3, 1, 1), five=ints(0, 2, 3, 4, 5), four=ints(0, 6, 4, 5))
case("channels-last", 13, [  # As TensorFlow's exporter writes it: transposed in, transposed out.
    node("Transpose", "x", "n", perm=[0, 3, 1, 2]), node("Conv", "n w b", "c", auto_pad="SAME_UPPER", strides=[2, 2]), node("Relu", "c", "r"),
    node("Transpose", "r", "l", perm=[0, 2, 3, 1]), node("Add", "l a", "s"), node("ReduceMean", "s", "y", axes=[1, 2], keepdims=0)
], (2, 7, 6, 3), w=weights(4, 3, 3, 3), b=weights(4), a=weights(4))
case("squeeze-excite", 13, [
    node("Conv", "x w", "c"), node("ReduceMean", "c", "m", axes=[2, 3]), node("Conv", "m v", "e"), node("HardSigmoid", "e", "h"), node("Mul", "c h")
], image, w=weights(4, 3, 1, 1), v=weights(4, 4, 1, 1))
case("dense", 13, [
    node("Conv", "x w1", "a"), node("Concat", "x a", "c1", axis=1), node("Relu", "c1", "r1"), node("Conv", "r1 w2", "b"),
    node("Concat", "c1 b", "c2", axis=1), node("BatchNormalization", "c2 s t m v", "n"), node("Relu", "n")
], image, w1=weights(2, 3, 1, 1), w2=weights(3, 5, 1, 1), s=weights(8), t=weights(8), m=weights(8), v=np.abs(weights(8)) + 0.1)

# What is not read is refused by name, before anything else is looked at: the first node would fail by its shape.
bad = node("Conv", "x w", "c", name="bad shape")
refused("convtranspose", 11, [bad, node("ConvTranspose", "c w", name="up")], image, w=weights(2, 5, 1, 1))
refused("resize", 13, [helper.make_node("Resize", ["x", "r", "s"], ["y"], name="larger", coordinate_transformation_mode="tf_crop_and_resize")],
        image, r=weights(10)[:8], s=np.array([1, 1, 2, 2], np.float32))
refused("domain", 13, [bad, helper.make_node("Relu", ["c"], ["y"], name="foreign", domain="com.example")], image, domains=["com.example"],
        w=weights(2, 5, 1, 1))
refused("shape", 13, [node("Conv", "x w", name="bad shape")], image, w=weights(2, 5, 1, 1))
refused("topk-smallest", 11, [node("TopK", "x k", "y i", name="smallest", largest=0)], (3, 7), k=ints(2))
refused("data-dependent", 13, [node("Cast", "x", "s", to=TensorProto.INT64, name="turns data"), node("Reshape", "x s")], (2, 3))

# Two results.
case("topk-11", 11, node("TopK", "x k", "y i"), (3, 2, 7), k=ints(4))
case("topk-10-indices", 10, [
    node("TopK", "x k", "v i", axis=-1), node("Cast", "i", "f", to=TensorProto.FLOAT), node("Concat", "f v", axis=1)], (3, 7), k=ints(7))

# Sequences.
case("conv-sequence", 13, node("Conv", "x w b", pads=[1, 2], strides=[2], dilations=[2]), (2, 3, 11), w=weights(4, 3, 3), b=weights(4))
case("conv-sequence-same", 11, node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2]), (2, 3, 8), w=weights(3, 3, 4))
case("maxpool-sequence", 12, node("MaxPool", kernel_shape=[3], strides=[2], pads=[1, 0]), (2, 3, 8))
case("avgpool-sequence", 13, node("AveragePool", kernel_shape=[3], pads=[1, 1]), (2, 3, 8))

# More ways to normalise.
case("instancenorm", 7, node("InstanceNormalization", "x s b", epsilon=1e-3), image, s=weights(3), b=weights(3))
case("instancenorm-plain", 13, node("InstanceNormalization", "x s b"), (2, 3, 8), s=np.ones(3, np.float32), b=np.zeros(3, np.float32))
case("groupnorm-21", 21, node("GroupNormalization", "x s b", num_groups=2), (2, 6, 3, 2), s=weights(6), b=weights(6))
case("rmsnorm-23", 23, node("RMSNormalization", "x s", axis=-2, epsilon=1e-3), (2, 3, 4), s=weights(3, 4))
case("batchnorm-of-weights", 15, [  # Weights that are standardised before they are used.
    node("BatchNormalization", "w s b m v", "n a c", training_mode=1), node("Reshape", "n to", "k"), node("Conv", "x k")
], image, w=weights(1, 4, 27), s=weights(4), b=weights(4), m=weights(4), v=np.abs(weights(4)), to=ints(4, 3, 3, 3))

# More functions of one element.
for kind, opset, attributes in [("Mish", 18, {}), ("Selu", 7, {}), ("Selu", 22, {"alpha": 1.2, "gamma": 0.9}), ("Celu", 12, {"alpha": 0.6}),
                                ("Softsign", 7, {})]:
    case(f"{kind.lower()}-{opset}", opset, node(kind, **attributes), (3, 11), -5, 5)

case("pow-whole", 13, [node("Pow", "x two", "a"), node("Pow", "a three", "b"), node("Pow", "b half", "c"), node("Pow", "c one")], (3, 11),
     two=np.float32(2), three=ints(3), half=np.array([0.5], np.float32), one=np.float32(1))

# Functions of one element in single steps, and what only looks like them.
halves = dict(half=np.float32(0.5), one=np.float32(1), root=np.float32(np.sqrt(2)), three=np.float32(3), six=np.float32(6))
case("silu-steps", 13, [node("Sigmoid", "x", "s"), node("Mul", "s x")], (3, 11), -5, 5)
case("silu-read-twice", 13, [node("Sigmoid", "x", "s"), node("Mul", "s x", "p"), node("Add", "p s")], (3, 11), -5, 5)
case("silu-steeper", 13, [node("Mul", "x three", "t"), node("Sigmoid", "t", "s"), node("Mul", "s x")], (3, 11), -5, 5, **halves)
case("gelu-steps", 13, [node("Div", "x root", "d"), node("Erf", "d", "e"), node("Add", "e one", "f"), node("Mul", "x f", "g"), node("Mul", "g half")],
     (3, 11), -5, 5, **halves)
case("gelu-steps-half-first", 13, [
    node("Mul", "x half", "h"), node("Mul", "x r", "d"), node("Erf", "d", "e"), node("Add", "one e", "f"), node("Mul", "h f")
], (3, 11), -5, 5, r=np.float32(np.sqrt(0.5)), **halves)
case("gelu-steps-double", 13, [node("Div", "x root", "d"), node("Erf", "d", "e"), node("Add", "e one", "f"), node("Mul", "x f")], (3, 11), -5, 5, **halves)
case("gelu-tanh-steps", 13, [
    node("Pow", "x three", "c"), node("Mul", "c k", "d"), node("Add", "x d", "e"), node("Mul", "e r", "f"), node("Tanh", "f", "t"), node("Add", "t one", "u"),
    node("Mul", "x half", "h"), node("Mul", "h u")
], (3, 11), -5, 5, k=np.float32(0.044715), r=np.float32(np.sqrt(2 / np.pi)), **halves)
case("gelu-tanh-steps-square", 13, [
    node("Mul", "x x", "c"), node("Mul", "c k", "d"), node("Add", "one d", "e"), node("Mul", "r x", "w"), node("Mul", "w e", "f"), node("Tanh", "f", "t"),
    node("Add", "t one", "u"), node("Mul", "x u", "v"), node("Mul", "v half")
], (3, 11), -5, 5, k=np.float32(0.044715), r=np.float32(np.sqrt(2 / np.pi)), **halves)
case("hardswish-steps", 13, [
    node("Add", "x three", "a"), node("Clip", "a zero six", "c"), node("Div", "c six", "d"), node("Mul", "x d")
], (3, 11), -5, 5, zero=np.float32(0), **halves)
case("hardswish-gate", 13, [node("HardSigmoid", "x", "g", alpha=1 / 6), node("Mul", "x g")], (3, 11), -5, 5)

# Conditions, of data and of what is known.
to_float = {"to": TensorProto.FLOAT}
for kind in ["Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"]:
    case(f"{kind.lower()}-data", 16, [node("Clip", "x least most", "k"), node(kind, "k least", "c"), node("Cast", "c", **to_float)], (3, 11),
         least=np.float32(-0.5), most=np.float32(1))
    case(f"{kind.lower()}-known", 16, [node(kind, "a b", "c"), node("Cast", "c", "f", **to_float), node("Mul", "x f")], (3, 4),
         a=ints(0, 1, 2, 3), b=ints(3, 1, 2, 0))
case("logic-data", 13, [
    node("Greater", "x a", "p"), node("Less", "x b", "q"), node("And", "p q", "r"), node("Or", "p r", "s"), node("Xor", "s q", "t"), node("Not", "t", "u"),
    node("Cast", "u", **to_float)], (4, 9), a=np.float32(-1), b=np.float32(1))
case("logic-known", 13, [
    node("Greater", "a zero", "p"), node("Less", "a two", "q"), node("And", "p q", "r"), node("Or", "p r", "s"), node("Xor", "s q", "t"),
    node("Not", "t", "u"), node("Where", "u x b")], (2, 4), a=ints(-1, 1, 2, 3), zero=ints(0), two=ints(2), b=weights(4))
case("where-data", 13, [node("Greater", "x a", "p"), node("Neg", "x", "n"), node("Where", "p x n")], (3, 5), a=weights(5))
case("where-mask", 13, [node("Neg", "x", "n"), node("Where", "m x n")], (3, 5), m=np.array([[1], [0], [1]], bool))
case("where-all", 13, node("Where", "m x c"), (1, 5), m=np.array([[1], [1], [1]], bool), c=weights(5))
case("where-none", 13, node("Where", "m x c"), (3, 5), m=np.zeros(1, bool), c=weights(5))
case("where-infinite", 13, [node("Where", "m x i", "z"), node("Softmax", "z")], (2, 4, 4), m=np.tril(np.ones((4, 4), bool)), i=np.float32(-np.inf))

# What exporters compute in the graph although it is known.
case("known-numbers", 13, [
    node("Shape", "x", "s"), node("Gather", "s one", "w"), node("Range", "zero w two", "r"), node("Cast", "r", "f", **to_float), node("Sin", "f", "a"),
    node("Cos", "f", "b"), node("Mul", "a b", "c"), node("Floor", "c", "d"), node("Ceil", "c", "e"), node("Round", "f", "g"), node("Sign", "a", "h"),
    node("Sum", "c d e g h", "k"), node("Concat", "k k", "l", axis=0), node("Add", "x l")
], (2, 8), zero=np.array(0, np.int64), one=np.array(1, np.int64), two=np.array(2, np.int64))
case("known-positions", 13, [  # Positions from a mask, as detection networks write them.
    node("Shape", "x", "s"), node("ConstantOfShape", "s", "z", value=numpy_helper.from_array(np.zeros(1, bool))), node("Not", "z", "m"),
    node("Cast", "m", "f", **to_float), node("CumSum", "f two", "c"), node("CumSum", "f one", "d", exclusive=1, reverse=1), node("Add", "c d", "e"),
    node("Add", "x e")], (1, 3, 4), one=np.array(1, np.int64), two=np.array(2, np.int64))
case("known-remainders", 13, [
    node("Mod", "a b", "c"), node("Mod", "a b", "d", fmod=1), node("Add", "c d", "e"), node("Cast", "e", "f", **to_float), node("Mul", "x f")
], (2, 6), a=ints(7, -7, 7, -7, 6, 0), b=ints(3, 3, -3, -3, 3, 5))
case("known-places", 13, [
    node("NonZero", "a", "p"), node("Transpose", "p", "q", perm=[1, 0]), node("GatherND", "t q", "g"), node("OneHot", "i depth values", "h"),
    node("MatMul", "x h", "k"), node("Add", "k g")
], (2, 3), a=np.array([[0, 2, 0], [1, 0, 3]], np.float32), t=weights(2, 3), i=ints(2, -1, 0), depth=ints(3), values=np.array([0.5, 2], np.float32))
case("known-table", 16, [  # A table of relative positions, and a window's mask.
    node("Sub", "c r", "d"), node("Add", "d shift", "e"), node("Gather", "table e", "bias"), node("Reshape", "bias grid", "b"),
    node("ConstantOfShape", "grid", "z", value=numpy_helper.from_array(np.zeros(1, np.float32))), node("ScatterND", "z at new", "m"),
    node("Trilu", "m", "u", upper=1), node("Add", "b u", "n"), node("Add", "x n")
], (2, 3, 3), c=np.arange(3)[None, :], r=np.arange(3)[:, None], shift=ints(2), table=weights(5), grid=ints(3, 3), at=np.array([[0, 2], [2, 0], [1, -1]]),
     new=weights(3))
case("known-elements", 13, [node("GatherElements", "t i", "g", axis=1), node("Add", "x g")], (2, 3), t=weights(2, 4), i=np.array([[0, 3, -1], [2, 1, 0]]))
case("known-product", 13, [  # A network over constants.
    node("MatMul", "c w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "t"), node("Sigmoid", "t", "g"), node("Gather", "g i", "b", axis=0),
    node("Add", "x b")], (3, 2), c=weights(5, 2), w=weights(2, 8), v=weights(8, 2), i=ints(4, 0, 2))
case("known-parts", 13, [
    node("Shape", "x", "s"), node("Split", "s", "n hw", axis=0), node("ReduceProd", "hw", "p"), node("Concat", "n p", "to", axis=0), node("Reshape", "x to"),
], (2, 3, 4, 5))
case("known-least", 13, [
    node("Shape", "x", "s"), node("ReduceMin", "s", "l", keepdims=0), node("Size", "x", "z"), node("Div", "z l", "r"), node("Tile", "l one", "t"),
    node("Unsqueeze", "r axis", "u"), node("Concat", "l1 u", "to", axis=0), node("Reshape", "x to")
], (6, 2, 3), one=np.zeros(0, np.int64), axis=ints(0), l1=ints(2))

# More movement.
case("tile", 13, node("Tile", "x r"), (2, 1, 3), r=ints(1, 4, 2))
case("depthtospace", 13, node("DepthToSpace", blocksize=2), (2, 8, 2, 3))
case("depthtospace-crd", 11, node("DepthToSpace", blocksize=2, mode="CRD"), (1, 8, 2, 3))
case("spacetodepth", 13, node("SpaceToDepth", blocksize=2), (2, 3, 4, 6))
case("gather-steps", 13, node("Gather", "x i", axis=1), (2, 90, 3), i=np.concatenate([np.arange(0, 90, 2), np.arange(80, 3, -3), [5, 5, 7]]))
case("pad-reflect", 11, node("Pad", "x p", mode="reflect"), image, p=ints(0, 0, 2, 1, 0, 0, 3, 2))
case("pad-edge", 11, node("Pad", "x p", mode="edge"), image, p=ints(1, 0, 2, 1, 0, 0, 0, 7))
case("pad-wrap", 19, node("Pad", "x p", mode="wrap"), image, p=ints(0, 0, 2, 1, 0, 0, 0, 3))
for kind in ["ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare"]:
    case(f"{kind.lower()}-13", 13, node(kind, axes=[-1, 1], keepdims=0), image)
    case(f"{kind.lower()}-18", 18, node(kind, "x a"), image, a=ints(1))
for name, equation, shape, other in [
    ("heads", "bnhd,bmhd->bhnm", (2, 3, 2, 4), (2, 5, 2, 4)), ("grid", "b i j d , d e -> b e i j", (2, 3, 2, 4), (4, 5)),
    ("sums", "abc,cd->bd", (2, 3, 4), (4, 5)), ("outer", "i,j->ji", (3,), (4,)), ("implied", "ba,bc", (3, 4), (3, 2))]:
    case(f"einsum-{name}", 12, node("Einsum", "x w", equation=equation), shape, w=weights(*other))
case("einsum-one", 12, node("Einsum", "x", equation="abc->ca"), (2, 3, 4))


# Images of another size.
def resized(name, opset, scales=None, sizes=None, shape=(1, 2, 5, 4), **attributes):
    inputs, constants = ["x"] + ([""] if opset > 10 else []), {}
    if scales is not None:
        inputs, constants = inputs + ["s"], {"s": np.array(scales, np.float32)}
    else:
        inputs, constants = inputs + ["", "n"], {"n": ints(*sizes)}
    case(f"resize-{name}", opset, helper.make_node("Resize", inputs, ["y"], **attributes), shape, **constants)


resized("10", 10, [1, 1, 2, 1.5], mode="linear")
resized("twice", 13, [1, 1, 2, 2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
resized("sizes", 13, sizes=[1, 2, 7, 9], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
for rounding in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]:
    resized(f"nearest-{rounding}", 13, [1, 1, 1.6, 0.7], mode="nearest", nearest_mode=rounding)
for coordinates in ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]:
    for mode in ["linear", "cubic"]:
        resized(f"{mode}-{coordinates}", 13, sizes=[1, 2, 8, 3], mode=mode, coordinate_transformation_mode=coordinates)
resized("symmetric", 19, [1, 1, 2.3, 0.6], mode="linear", coordinate_transformation_mode="half_pixel_symmetric")
resized("cubic-outside", 13, [1, 1, 1.7, 2], mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1)
resized("antialias", 18, [0.4, 0.55], mode="linear", antialias=1, axes=[2, 3], shape=(1, 2, 15, 11))
resized("antialias-cubic", 18, [1, 1, 0.4, 0.55], mode="cubic", antialias=1, shape=(1, 2, 15, 11))
resized("sequence", 13, [1, 1, 2.5], mode="linear", shape=(2, 3, 6))
case("upsample-7", 7, node("Upsample", mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]), image)
case("upsample-9", 9, node("Upsample", "x s", mode="linear"), image, s=np.array([1, 1, 2, 2], np.float32))

# A table of positions that is brought to another size before it is used.
case("resize-constant", 13, [
    helper.make_node("Resize", ["t", "", "", "n"], ["r"], mode="linear"), node("Add", "x r")
], (2, 2, 6, 4), t=weights(1, 2, 3, 3), n=ints(1, 2, 6, 4))


# Branches: what exporters ask about is known.
def branch(node, outputs, constants=None, kind=TensorProto.FLOAT):
    constants = constants or {}
    return helper.make_graph(
        node, "branch", [], [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()])


def either(condition, then, otherwise, outputs="y", name="chooses"):
    return helper.make_node("If", [condition], outputs.split(), name=name, then_branch=then, else_branch=otherwise)


asks = [node("Shape", "x", "s"), node("Gather", "s i", "d"), node("Greater", "d limit", "c")]
for limit in [2, 5]:
    nested = either("c", branch([node("Neg", "a", "n")], ["n"]), branch([node("Abs", "a", "o")], ["o"]), "inner")
    case(f"if-{limit}", 13, asks + [
        either("c", branch([node("Mul", "x w", "t"), node("Relu", "t", "p")], ["p", "t"], {"w": weights(3)}),
               branch([node("Add", "x b", "a"), nested], ["inner", "a"]), "u v"), node("Sub", "u v")
    ], (4, 3), i=ints(0), limit=np.array([limit]), b=weights(3))
case("if-shapes", 16, asks + [
    either("c", branch([node("Concat", "s one", "l", axis=0)], ["l"], kind=TensorProto.INT64),
           branch([node("Identity", "s", "m")], ["m"], kind=TensorProto.INT64), "to"),
    node("Reshape", "x to")
], (2, 6), i=ints(0), limit=ints(5), one=ints(1))
refused("if-data", 13, [node("ReduceSum", "x", "r", keepdims=0), node("Greater", "r zero", "c"), either(
    "c", branch([node("Relu", "x", "p")], ["p"]), branch([node("Neg", "x", "q")], ["q"]))], (2, 3), zero=np.zeros((), np.float32))

# What is no number: PyTorch's attention replaces it in rows that are masked as a whole.
hidden = np.where(np.tri(5, dtype=bool), 0, -np.inf).astype(np.float32)
attention = [
    node("Add", "x m", "s"), node("Softmax", "s", "p", axis=-1), node("IsNaN", "p", "n", name="tests"), node("Where", "n zero p", name="replaces")]
case("isnan-masked", 13, attention, (2, 3, 5, 5), m=hidden, zero=np.zeros((), np.float32))
case("isnan-biased", 18, [node("Add", "x b", "z"), node("Reshape", "z to", "x1")] + [node("Add", "x1 m", "s")] + attention[1:] + [
], (6, 5, 5), b=weights(5, 5), to=ints(2, 3, 5, 5), m=hidden, zero=np.zeros((), np.float32))
case("isnan-known", 13, [node("IsNaN", "m", "n"), node("IsInf", "m", "i", detect_positive=0), node("Or", "n i", "o"), node("Where", "o x zero")],
     (5, 5), m=np.where(np.eye(5, dtype=bool), np.nan, -hidden).astype(np.float32), zero=np.zeros((), np.float32))
refused("isnan-row", 13, attention, (2, 3, 5, 5), m=np.full((5, 1), -np.inf, np.float32), zero=np.zeros((), np.float32))
refused("isnan-data", 13, [node("IsNaN", "x", "n", name="tests"), node("Where", "n zero x", name="replaces")], (2, 3), zero=np.zeros((), np.float32))

# Blocks that lie side by side, and windows that the last rows and columns do not fill.
case("col2im", 18, node("Col2Im", "x i b", strides=[2, 3]), (2, 12, 6), i=ints(4, 9), b=ints(2, 3))
case("col2im-overlap", 18, node("Col2Im", "x i b", strides=[2, 1], pads=[1, 0, 1, 2]), (2, 18, 18), i=ints(4, 9), b=ints(3, 3))
case("col2im-dilated", 18, node("Col2Im", "x i b", dilations=[3, 2], strides=[2, 3]), (1, 6, 4), i=ints(6, 8), b=ints(2, 3))
refused("col2im-blocks", 18, [node("Col2Im", "x i b", name="folds", strides=[1, 1])], (2, 12, 6), i=ints(4, 9), b=ints(2, 3))
case("averagepool-larger", 19, node("AveragePool", kernel_shape=[9, 4], strides=[9, 4], ceil_mode=1), (2, 3, 7, 6))
case("maxpool-larger", 12, node("MaxPool", kernel_shape=[8, 8], strides=[8, 3], pads=[1, 1, 1, 1], ceil_mode=1), (2, 3, 5, 4))

# Attention as one operator.
def attention_case(name, heads=2, key_heads=2, mask=None, joined=False, opset=23, **attributes):
    """Queries, keys and values of five places, four of them queries, from one input."""
    size = 6
    constants = {"wq": weights(8, heads * size), "wk": weights(8, key_heads * size), "wv": weights(8, key_heads * size), "first": ints(0),
                 "last": ints(4), "axis": ints(1), "q4": ints(0, 0, heads, size), "k4": ints(0, 0, key_heads, size)}
    nodes = [node("Slice", "x first last axis", "some"), node("MatMul", "some wq", "q"), node("MatMul", "x wk", "k"), node("MatMul", "x wv", "v")]
    names = "q k v"
    if joined:
        attributes.update(q_num_heads=heads, kv_num_heads=key_heads)
    else:
        for key in names.split():
            nodes += [node("Reshape", f"{key} {'q4' if key == 'q' else 'k4'}", f"{key}r"), node("Transpose", f"{key}r", f"{key}t", perm=[0, 2, 1, 3])]
        names = "qt kt vt"
    if mask is not None:
        names, constants["mask"] = names + " mask", mask
    (refused if name.startswith("refused") else case)(
        name.removeprefix("refused-"), opset, [*nodes, node("Attention", names, name="attends", **attributes)], (2, 5, 8), **constants)


attention_case("attention")
attention_case("attention-joined", heads=4, joined=True, scale=0.3)
attention_case("attention-causal", is_causal=1, joined=True)
attention_case("attention-hidden", mask=np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool))
attention_case("attention-biased", heads=4, key_heads=4, mask=weights(4, 4, 5))
attention_case("attention-both", mask=np.tile(np.array([0.5, -np.inf, 1, 2, 3], np.float32), (2, 1, 4, 1)), is_causal=1, opset=24)
attention_case("refused-attention-nothing", mask=np.array([[1], [0], [1], [1]], bool))
attention_case("refused-attention-softcap", softcap=3.0)

# Sizes that single precision rounds: 5 times 1.4 is 7.
case("resize-rounded", 13, node("Resize", "x none s", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"), (1, 2, 5, 10),
     none=np.zeros(0, np.float32), s=np.array([1, 1, 1.4, 0.7], np.float32))
# Integers stay integers: what is divided next is rounded towards zero.
case("clip-integers", 13, [node("Clip", "i least most", "c"), node("Div", "c two", "d"), node("Gather", "x d", axis=1)], (2, 5),
     i=ints(-3, 1, 3, 9), least=np.int64(0), most=np.int64(7), two=np.int64(2))
case("max-integers", 13, [node("Max", "i one j", "c"), node("Div", "c two", "d"), node("Gather", "x d", axis=1)], (2, 5),
     i=ints(-3, 1, 3, 9), one=np.int64(1), j=ints(7, 0, 0, 0), two=np.int64(2))
for mode in ["constant", "reflect", "edge"]:
    case(f"pad-integers-{mode}", 13, [node("Pad", "i p three", "c", mode=mode), node("Div", "c two", "d"), node("Gather", "x d", axis=1)], (2, 7),
         i=np.array([[1, 9, 5], [7, 3, 11]], np.int64), p=ints(1, 2, 1, 1), three=np.int64(3), two=np.int64(2))
case("pad-integers-cut", 13, [node("Pad", "i p three", "c"), node("Div", "c two", "d"), node("Gather", "x d", axis=1)], (2, 7),
     i=np.array([[1, 9, 5], [7, 3, 11]], np.int64), p=ints(-1, 2, 1, -1), three=np.int64(3), two=np.int64(2))
# What is not chosen may be infinite or no number.
case("where-root", 13, [node("Greater", "x zero", "p"), node("Sqrt", "x", "r"), node("Where", "p r zero")], (3, 17), zero=np.zeros((), np.float32))
case("where-overflow", 13, [node("Exp", "x", "e"), node("Where", "m x e")], (3, 17), low=-200, high=200, m=np.arange(51).reshape(3, 17) % 2 == 0)
case("where-number", 13, [node("Greater", "x zero", "p"), node("Where", "p x inf", "w"), node("Reciprocal", "w")], (3, 17),
     zero=np.zeros((), np.float32), inf=np.array(np.inf, np.float32))
# A slope a channel would be [9, 1].
case("prelu-last", 13, node("PRelu", "x s"), (2, 9, 9), s=weights(9))
case("reduce-nothing", 18, [node("ReduceL1", "x none", "a", noop_with_empty_axes=1), node("ReduceSumSquare", "x none", "b", noop_with_empty_axes=1),
     node("ReduceL2", "x none", "c", noop_with_empty_axes=1), node("Sub", "b a", "d"), node("Mul", "c d")], (2, 5), none=np.zeros(0, np.int64))
# Converters append what they put in front of others.
case("nodes-unsorted", 13, [node("Add", "b a"), node("Relu", "a", "b"), node("Neg", "x", "a")], (2, 5))

# What a mask hides may be infinite or no number, in attention, too.
case("where-hidden", 13, [node("Div", "x d", "q"), node("Where", "m q i", "z"), node("Softmax", "z")], (3, 4), d=np.array([1, 0, 2, 0], np.float32),
     m=np.array([1, 0, 1, 0], bool), i=np.float32(-np.inf))
for name, choice in [("where", "m a i"), ("where-not", "m i a")]:
    order = np.tri(5, dtype=bool)
    nodes = []
    for key, axes in [("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])]:
        nodes += [node("MatMul", f"x w{key}", f"{key}l"), node("Reshape", f"{key}l to", f"{key}r"), node("Transpose", f"{key}r", key, perm=axes)]
    case(f"attention-{name}", 13, nodes + [
        node("MatMul", "q k", "s"), node("Mul", "s root", "a"), node("Where", choice, "h"), node("Softmax", "h", "p", axis=-1), node("MatMul", "p v", "o"),
        node("Transpose", "o", "t", perm=[0, 2, 1, 3]), node("Reshape", "t back")
    ], (2, 5, 8), wq=weights(8, 8), wk=weights(8, 8), wv=weights(8, 8), to=ints(0, 0, 2, 4), back=ints(0, 0, 8), root=np.float32(0.5),
         m=order if name == "where" else ~order, i=np.float32(-np.inf))

# Names that graphs inside nodes define are their own.
two, three = np.full(3, 2, np.float32), np.full(3, 3, np.float32)
case("if-names", 18, [
    either("c", branch([node("Mul", "x w", "q"), node("Add", "q w", "t")], ["t"], {"w": two}), branch([node("Neg", "x", "t")], ["t"]), "a"),
    either("c", branch([node("Add", "a w", "t")], ["t"], {"w": three}), branch([node("Neg", "a", "t")], ["t"]), "b", "chooses again"),
    node("Abs", "b", "q"), node("Add", "q a"),
], (2, 3), c=np.array(True))

# What is cut off is no part of the border.
for mode, most in [("wrap", 2), ("reflect", 1), ("edge", 3)]:
    case(f"pad-integers-{mode}-cut", 19, [node("Pad", "i p", "c", mode=mode), node("Div", "c two", "d"), node("Gather", "x d", axis=1)], (2, 7),
         i=np.array([[1, 9, 5], [7, 3, 11]], np.int64), p=ints(0, -1, 1, most), two=np.int64(2))

# A number stays one, without dimensions.
scalars = [node("ReduceSum", "x", "r", keepdims=0), node("Mul", "r half", "s"), node("Softsign", "s", "s0"), node("GreaterOrEqual", "s half", "c"),
           node("Cast", "c", "s1", to=TensorProto.FLOAT), node("HardSwish", "s", "s2"), node("Mean", "s r half", "s3"), node("Selu", "s", "s4"),
           node("Celu", "s", "s5", alpha=0.5), node("Not", "c", "n"), node("Cast", "n", "s6", to=TensorProto.FLOAT), node("Mish", "s", "s7")]
scalars += [node("Unsqueeze", f"s{index} axis", f"u{index}") for index in range(8)]
case("scalars", 18, scalars + [node("Concat", " ".join(f"u{index}" for index in range(8)), axis=0)], (2, 3), half=np.array(0.5, np.float32), axis=ints(0))

# Scales and shifts that broadcast.
case("layernorm-channels", 17, node("LayerNormalization", "x s b", axis=1), (2, 3, 4, 5), s=weights(3, 1, 1), b=weights(3, 1, 1))
case("layernorm-number", 17, node("LayerNormalization", "x s"), (2, 3, 8), s=weights(1))
case("layernorm-scalar", 17, node("LayerNormalization", "x s b", axis=1), (2, 3, 4), s=np.array(1.5, np.float32), b=np.array(0.5, np.float32))
case("layernorm-shift", 17, node("LayerNormalization", "x s b"), (2, 3, 8), s=weights(8), b=weights(1, 1, 1))
case("layernorm-rows", 17, node("LayerNormalization", "x s"), (2, 4, 4), s=weights(4, 1))

# A lower bound above the upper one, of what is known and of data; integers that single precision rounds.
case("clip-swapped", 13, [node("Clip", "k three one", "c"), node("Clip", "x one half", "d"), node("Add", "c d")], (2, 3), k=weights(3),
     three=np.float32(3), one=np.float32(1), half=np.float32(0.5))
case("clip-integers-large", 13, [node("Clip", "i least most", "c"), node("Sub", "c least", "d"), node("Gather", "x d", axis=1)], (2, 5),
     i=ints(2**24 - 5, 2**24 + 2, 2**24 + 3, 2**24 + 9), least=np.int64(2**24 + 1), most=np.int64(2**24 + 5))
case("pad-integers-large", 13, [node("Pad", "i p v", "c"), node("Sub", "c v", "d"), node("Gather", "x d", axis=1)], (2, 5),
     i=ints(2**24 + 2, 2**24 + 5), p=ints(1, 2), v=np.int64(2**24 + 1))

# What no output needs may be of any operator, and so may be what follows a value that is asked for by name.
case("unneeded", 13, [node("ArgMax", "x", "i", axis=1), node("Cast", "i", "f", **to_float), node("Relu", "x")], (2, 3))
refused("behind", 13, [node("Relu", "x", "r"), node("Neg", "r", "f"), node("ArgMax", "f", "i", name="chooses", axis=1), node("Cast", "i", **to_float)], (2, 3))

# Exported for one image.
case("one-image-pooled", 13, [node("GlobalAveragePool", "x", "g"), node("Reshape", "g to")], (1, 8, 4, 4), to=ints(1, -1))
case("one-image-tokens", 13, [
    node("Transpose", "x", "l", perm=[0, 2, 3, 1]), node("Reshape", "l rows", "t"), node("Softmax", "t", "p", axis=1), node("Reshape", "c flat", "b"),
    node("Add", "p b", "s"), node("Reshape", "s back", "u"), node("ReduceMax", "u", axes=[1, 2], keepdims=0)
], (1, 8, 4, 4), rows=ints(1, -1, 8), c=weights(4, 2), flat=ints(1, -1), back=ints(-1, 4, 4, 8))
case("one-image-windows", 13, [
    node("Transpose", "x", "l", perm=[0, 2, 3, 1]), node("Reshape", "l grid", "g"), node("Transpose", "g", "h", perm=[0, 1, 3, 2, 4, 5]),
    node("Reshape", "h windows", "i"), node("MatMul", "i w", "j"), node("Reshape", "j wide", "k"), node("Transpose", "k", "m", perm=[0, 1, 3, 2, 4, 5]),
    node("Reshape", "m rows", "n"), node("Reshape", "n pairs", "o"), node("ReduceMean", "o", axes=[1], keepdims=0)
], (1, 8, 4, 4), grid=ints(1, 2, 2, 2, 2, 8), windows=ints(-1, 4, 8), w=weights(8, 6), wide=ints(1, 2, 2, 2, 2, -1), rows=ints(1, -1, 6), pairs=ints(1, -1, 12))

# No number is neither less nor greater, nor equal.
case("compare-nan", 16, [node("Log", "x", "l"), node("LessOrEqual", "l zero", "a"), node("GreaterOrEqual", "l zero", "b"), node("Cast", "a", "c", **to_float),
                         node("Cast", "b", "d", **to_float), node("Sub", "c d")], (3, 11), zero=np.float32(0))
case("output-integers", 13, node("Shape"), (2, 3), kind=TensorProto.INT64)
case("output-double", 13, [node("Add", "c c")], (2, 3), kind=TensorProto.DOUBLE, c=weights(4).astype(np.float64))
case("names", 13, [node("Relu", "x", "r"), node("Identity", "r", "s"), node("Sum", "s", "t"), node("Expand", "t one", "u"), node("Neg", "u")], (2, 3), one=ints(1))
refused("cast-float8", 19, [node("Cast", "x", "s", to=17, name="shortens"), node("Cast", "s", **to_float)], (2, 3))
refused("dropout-training", 13, node("Dropout", "x r t", name="drops"), (2, 3), r=np.float32(0.3), t=np.array(True))
refused("batchnorm-training", 9, node("BatchNormalization", "x s b m v", "y c d e f", name="trained"), image, **statistics)

# In several steps.
case("castlike", 15, [node("CastLike", "i x", "f"), node("Mul", "x f")], (2, 3), i=ints(2, 3, 4))
for p in [1, 2]:
    case(f"lpnormalization-{p}", 13, node("LpNormalization", axis=1, p=p), (2, 3, 4))
case("reducelogsum-13", 13, node("ReduceLogSum", axes=[-1, 1], keepdims=0), image, 0.1, 3)
case("reducelogsum-18", 18, node("ReduceLogSum", "x a"), image, 0.1, 3, a=ints(1))
case("reducelogsumexp-13", 13, node("ReduceLogSumExp", axes=[-1, 1], keepdims=0), image, 60, 120)
case("reducelogsumexp-18", 18, node("ReduceLogSumExp", "x a"), image, -120, 120, a=ints(1))
case("meanvariance", 13, node("MeanVarianceNormalization"), image)
case("meanvariance-axes", 9, node("MeanVarianceNormalization", axes=[2, 3]), image)
case("eyelike", 13, [node("EyeLike", "c", "e", k=1), node("MatMul", "x e")], (2, 3), c=np.zeros((3, 4), np.float32))
case("shrink", 13, node("Shrink", lambd=0.75, bias=0.25), (3, 11))

header, offset = {}, 0
for name, tensor in tensors.items():
    header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, offset + tensor.nbytes]}
    offset += tensor.nbytes
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(folder / "expected.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + b"".join(np.ascontiguousarray(tensor).tobytes() for tensor in tensors.values()))
print(f"{len(tensors) // 2} models")
