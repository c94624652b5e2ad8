"""Small model files in every encoding the readers know, with the values they hold: model_files.py PART [PTH] OUT.

PART is one of
  onnx          needs numpy and onnx
  torch         needs numpy and torch (1.13, the python3-torch of Debian 12)
  safetensors   needs numpy and safetensors
  timm          needs timm 0.6 and torch: names and shapes of EfficientNet-Lite as digests

  weights PTH   needs torch: samples of EfficientNet-Lite0's weights, from the file that Tools/fetch prints

OUT is Tests/GraftBackbonesTests/Fixtures. Every model file NAME comes with NAME.expected.json, which maps each tensor to
{"type", "shape", "values"}; the values are what the library that wrote the file says they are, as doubles.
"""
import json, pathlib, sys
import numpy as np


def expect(path, tensors):
    """Writes the values of `tensors`, name to (type, NumPy array of doubles or integers)."""
    lines = {name: {"type": kind, "shape": list(np.shape(array)), "values": np.asarray(array).reshape(-1).tolist()} for name, (kind, array) in tensors.items()}
    text = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in lines.items())
    pathlib.Path(f"{path}.expected.json").write_text("{\n" + text + "\n}\n")


def make_onnx(out):
    import onnx
    from onnx import AttributeProto, TensorProto, helper, numpy_helper
    import ml_dtypes

    rng = np.random.default_rng(1)
    formats = {
        "float32": (np.float32, TensorProto.FLOAT), "float64": (np.float64, TensorProto.DOUBLE), "float16": (np.float16, TensorProto.FLOAT16),
        "bfloat16": (ml_dtypes.bfloat16, TensorProto.BFLOAT16), "int64": (np.int64, TensorProto.INT64), "int32": (np.int32, TensorProto.INT32),
        "int16": (np.int16, TensorProto.INT16), "int8": (np.int8, TensorProto.INT8), "uint64": (np.uint64, TensorProto.UINT64),
        "uint32": (np.uint32, TensorProto.UINT32), "uint16": (np.uint16, TensorProto.UINT16), "uint8": (np.uint8, TensorProto.UINT8),
        "bool": (np.bool_, TensorProto.BOOL),
    }

    def sample(name, dtype, shape=(2, 3)):
        if name == "bool":
            return rng.integers(0, 2, shape).astype(np.bool_)
        if "float" in name:
            return (8 * rng.standard_normal(shape)).astype(dtype)
        limits = np.iinfo(dtype)
        # 64-bit values stay exact as doubles
        return rng.integers(max(limits.min, -(2**52)), min(limits.max, 2**52), shape, endpoint=True).astype(dtype)

    initializers, values = [], {}
    for name, (dtype, code) in formats.items():
        array = sample(name, dtype)
        raw = numpy_helper.from_array(array, f"raw.{name}")
        assert raw.HasField("raw_data")
        typed = helper.make_tensor(f"typed.{name}", code, array.shape, array.reshape(-1))
        assert not typed.HasField("raw_data")
        initializers += [raw, typed]
        for prefix in ("raw", "typed"):
            values[f"{prefix}.{name}"] = (name, array.astype(np.float64) if "float" in name else array.astype(np.int64))
    scalar, empty = np.float32(2.5), np.zeros((0, 4), np.float32)
    initializers += [numpy_helper.from_array(np.array(scalar), "scalar"), numpy_helper.from_array(empty, "empty")]
    values["scalar"], values["empty"] = ("float32", scalar), ("float32", empty)

    subgraph = helper.make_graph([], "body", [], [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1])])
    attributes = helper.make_node(
        "Attributes", ["x", "", "raw.float32"], ["a", ""], name="everything", domain="example.test", an_integer=-7, a_float=0.1, a_string="text",
        a_tensor=numpy_helper.from_array(np.array([1, -2, 3], np.int64)), integers=[1, -(2**40), 3], floats=[0.5, -1.25], strings=["a", "b"], a_graph=subgraph)
    # A list that is empty says its type only where it is stated.
    nothing = helper.make_attribute("nothing", [], attr_type=AttributeProto.INTS)
    attributes.attribute.append(nothing)
    relu = helper.make_node("Relu", ["a"], ["y"])
    weight = helper.make_tensor_value_info("raw.float32", TensorProto.FLOAT, [2, 3])  # as old exporters list constants
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, None, 224])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT16, None)
    graph = helper.make_graph([attributes, relu], "encodings", [x, weight], [y], initializers)
    model = helper.make_model(
        graph, producer_name="reference", producer_version="1.0", ir_version=8,
        opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("example.test", 2)])
    onnx.save(model, out / "encodings.onnx")
    expect(out / "encodings.onnx", values)

    # External data: two tensors share a file, one with an offset and no length; a third has a file of its own.
    first, second, third = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 5), (3,), (2, 2)))
    (out / "external.bin").write_bytes(first.tobytes() + b"\0" * 16 + second.tobytes())
    (out / "external.second").write_bytes(third.tobytes())

    def external(name, array, **entries):
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape, data_location=TensorProto.EXTERNAL)
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def external_model(*tensors):
        node = helper.make_node("Concat", [t.name for t in tensors], ["y"], axis=0)
        graph = helper.make_graph([node], "external", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], tensors)
        return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])

    onnx.save(
        external_model(
            external("first", first, location="external.bin", offset=0, length=80), external("second", second, location="external.bin", offset=96),
            external("third", third, location="external.second")),
        out / "external.onnx")
    expect(out / "external.onnx", {"first": ("float32", first.astype(float)), "second": ("float32", second.astype(float)), "third": ("float32", third.astype(float))})
    for name, location in (("escape-parent", "../external.bin"), ("escape-absolute", "/etc/hostname"), ("escape-inside", "a/../../external.bin")):
        onnx.save(external_model(external("first", first, location=location)), out / f"{name}.onnx")


def make_torch(out):
    import argparse, collections, os, pickle, zipfile
    import torch

    global Net  # pickled by name; without a source file, which PyTorch would copy into the legacy form
    Net = type("Net", (torch.nn.Module,), {"__module__": "__main__"})
    rng = np.random.default_rng(2)
    base = torch.from_numpy(rng.standard_normal((4, 6)).astype(np.float32))
    state = collections.OrderedDict()
    state["module.conv.weight"] = torch.from_numpy(rng.standard_normal((2, 3, 2, 2)).astype(np.float32))
    state["module.conv.transposed"] = state["module.conv.weight"].permute(2, 3, 1, 0)
    state["module.parameter"] = torch.nn.Parameter(torch.arange(3.0))
    state["module.slice"] = base[1:3, 2:5]
    state["module.row"] = base[2]
    state["module.strided"] = base[::2, ::3]
    state["module.base"] = base
    for name in ("float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"):
        state[f"module.{name}"] = torch.arange(-3 if name != "uint8" else 0, 5).to(getattr(torch, name)) * (1.5 if "float" in name else 1)
        assert state[f"module.{name}"].dtype == getattr(torch, name)
    state["module.bool"] = torch.tensor([True, False, True])
    state["module.scalar"] = torch.tensor(7, dtype=torch.int64)
    state["module.empty"] = torch.zeros(0, 3)
    state["module.channels_last"] = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    values = {
        name.removeprefix("module."): (str(tensor.dtype).removeprefix("torch."), tensor.detach().to(torch.float64).numpy() if tensor.is_floating_point() else tensor.to(torch.int64).numpy())
        for name, tensor in state.items()}
    checkpoint = {
        "epoch": 3, "loss": 0.25, "best": np.float64(0.5), "steps": np.int32(9), "name": "größe", "flags": {True, False, None}, "big": 2**100, "negative": -(2**62),
        "device": torch.device("cpu"), "size": torch.Size([1, 2]), "dtype": torch.float16, "blob": b"\x00\xff", "nested": [1, (2, [3.5]), {"a": ()}],
        "optimizer": {"state": {0: {"momentum": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "state_dict": state}
    for name, zipped in (("zip", True), ("legacy", False)):
        for protocol in (2, 4):
            path = out / f"{name}-{protocol}.pth"
            torch.save(checkpoint, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
            expect(path, values)
        torch.save(Net(), out / f"module-{name}.pth", _use_new_zipfile_serialization=zipped)
        torch.save({"state_dict": {"w": torch.ones(2)}, "args": argparse.Namespace(lr=1)}, out / f"namespace-{name}.pth", _use_new_zipfile_serialization=zipped)

        class Attack:
            def __reduce__(self):
                return (os.system, ("touch /tmp/graft-pickle-was-run",))

        torch.save({"w": torch.ones(2), "x": Attack()}, out / f"attack-{name}.pth", _use_new_zipfile_serialization=zipped)
        # One element, expanded to a matrix far larger than memory.
        torch.save({"w": torch.ones(1).expand(1 << 20, 1 << 20)}, out / f"expanded-{name}.pth", _use_new_zipfile_serialization=zipped)
    # The entries of a TorchScript archive; a real one holds paths of the machine it was made on.
    with zipfile.ZipFile(out / "script.pt", "w") as archive:
        for entry in ("data.pkl", "code/__torch__.py", "constants.pkl", "version"):
            archive.writestr(zipfile.ZipInfo(f"script/{entry}"), b"")
    (out / "plain.pkl").write_bytes(pickle.dumps({"w": [1.0, 2.0]}, protocol=4))


def make_safetensors(out):
    import ml_dtypes
    from safetensors.numpy import save_file

    rng = np.random.default_rng(3)
    arrays, values = {}, {}
    for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"):
        dtype = ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)
        array = rng.standard_normal((3, 2)).astype(dtype) if "float" in name else rng.integers(0, 2 if name == "bool" else 100, (3, 2)).astype(dtype)
        arrays[name] = array
        values[name] = (name, array.astype(np.float64) if "float" in name else array.astype(np.int64))
    arrays['a "quoted"\n\\ name: größe 🌱'] = np.array([1.5], np.float32)
    values['a "quoted"\n\\ name: größe 🌱'] = ("float32", np.array([1.5]))
    arrays["scalar"], values["scalar"] = np.array(4.0, np.float32), ("float32", np.array(4.0))
    arrays["empty"], values["empty"] = np.zeros((0, 2), np.float32), ("float32", np.zeros((0, 2)))
    save_file(arrays, out / "reference.safetensors", metadata={"format": "np", "note": "größe\t\"x\""})
    (out / "reference.safetensors").chmod(0o644)
    expect(out / "reference.safetensors", values)


def make_timm(out):
    import hashlib, timm

    digests = {}
    for variant in range(5):
        name = f"tf_efficientnet_lite{variant}"
        model = timm.create_model(name)
        lines = sorted(
            f"{key} {','.join(map(str, value.shape))}\n" for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked"))
        digests[name] = {
            "tensors": len(lines), "parameters": sum(p.numel() for p in model.parameters()), "sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}
    (out / "efficientnet-lite.json").write_text(json.dumps(digests, indent=1) + "\n")


def make_weights(out, path):
    import torch

    state = torch.load(path, map_location="cpu")
    samples = {}
    for name, tensor in state.items():
        flat = tensor.to(torch.float64).reshape(-1)
        step = max(1, flat.numel() // 5)
        samples[name] = {"shape": list(tensor.shape), "step": step, "values": flat[::step].tolist(), "sum": flat.abs().sum().item()}
    kept = [name for index, name in enumerate(samples) if index % 12 == 0] + ["_fc.weight", "_fc.bias"]
    text = ",\n".join(f"  {json.dumps(name)}: {json.dumps(samples[name])}" for name in kept)
    (out / "efficientnet-lite0.samples.json").write_text("{\n" + text + "\n}\n")


if __name__ == "__main__":
    parts = {"onnx": make_onnx, "torch": make_torch, "safetensors": make_safetensors, "timm": make_timm, "weights": make_weights}
    part, *inputs = sys.argv[1:-1] or [""]
    if part not in parts or len(inputs) != (part == "weights"):
        sys.exit(__doc__)
    target = pathlib.Path(sys.argv[-1])
    target.mkdir(parents=True, exist_ok=True)
    parts[part](target, *inputs)
