"""What is measured: networks, matrix products, the layers of one network."""
import math
import statistics
import sys

from . import contenders, turns
from .failure import Failure
from .report import FORMATS, LAYERS, NETWORKS, PRODUCTS, table

MODELS = ["resnet50-features", "vgg19-features", "densenet121-features", "inception_v2-features", "efficientnet-lite0"]
PEERS = ["ONNX Runtime", "OpenVINO", "PyTorch", "PyTorch, compiled"]


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def ratio_text(ratios):
    if not ratios:
        return "", ""
    return f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"


def models(graft, folder, options):
    """Images a second, batches of 16 and of 1."""
    numpy = contenders.imported("numpy")
    if numpy is None:
        raise Failure("the peers need NumPy: run this with a Python that has it")
    rows, missing = [], []
    for name in MODELS:
        path = folder / f"{name}.onnx"
        if not path.is_file():
            missing.append(name)
            continue
        for batch in (16, 1):
            say(f"{name}, batch {batch}")
            x = numpy.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype=numpy.float32)
            found = {"graft": graft.model(path, batch, options.seconds)}
            found |= contenders.onnx_runtime(path, x, options.threads, options.seconds)
            found |= contenders.openvino(path, x, options.threads, options.seconds)
            found |= contenders.pytorch(name, x, options.threads, options.seconds)
            outcome = turns.in_turns(found, options.rounds)
            rates = [f"{outcome.median(c):.1f}" if c in found else "" for c in ["graft", *PEERS]]
            rows.append([name, str(batch), *rates, *ratio_text(outcome.ratios("graft", PEERS))])
    if missing:
        say(f"not in {folder}, left out: {', '.join(missing)}")
    heads = ["model", "batch", "graft", *PEERS, "ratio to the fastest peer", "rounds"]
    return {NETWORKS: table(heads, rows)} if rows else {}


def formats(graft, folder, options):
    """‖y - r‖ / ‖r‖ of each network's first output, one image of normal numbers; r is ONNX Runtime's in float32."""
    numpy, ort = contenders.imported("numpy"), contenders.imported("onnxruntime")
    if numpy is None or ort is None:
        say("short formats need NumPy and ONNX Runtime, so none are compared")
        return {}
    norm = numpy.linalg.norm
    rows = []
    for path in sorted(folder.glob("*.onnx")):
        say(f"{path.stem} in short formats")
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        feed, output = session.get_inputs()[0], session.get_outputs()[0].name
        shape = [size if isinstance(size, int) else 1 for size in feed.shape]
        x = numpy.random.default_rng(1).standard_normal(shape).astype(numpy.float32)
        reference = session.run([output], {feed.name: x})[0].astype(numpy.float64)
        results = [graft.output(path, x, output, precision) for precision in ("float32", "float16", "bfloat16")]
        results.append(contenders.openvino_in_bfloat16(path, x, output))
        rows.append([path.stem, *("" if y is None else f"{norm(y - reference) / norm(reference):.1e}" for y in results)])
    if not rows:
        say(f"there is no .onnx file in {folder}, so no formats are compared")
        return {}
    text = table(["network", "graft, float32", "graft, float16", "graft, bfloat16", "OpenVINO, bfloat16"], rows)
    return {FORMATS: text + "\n\n‖y − r‖ / ‖r‖ of the first output for one image of normal numbers (seed 1); r is ONNX Runtime's in float32."}


def shapes(quick):
    """(M, N, K, a transposed, b transposed)."""
    squares = [64, 512, 2048] if quick else [64, 128, 256, 512, 1024, 2048, 4096]
    found = [(s, s, s, False, False) for s in squares]
    for s in [512] if quick else [256, 1024]:
        found += [(s, s, s, a, b) for a, b in ((True, False), (False, True), (True, True))]
    # As heads have: few classes, or few features.
    for narrow in [10] if quick else [10, 32, 100]:
        found += [(4096, narrow, 1280, False, b) for b in (False, True)]
        found += [(narrow, 1280, 4096, True, b) for b in (False, True)]
        found += [(narrow, 1000, 2048, False, b) for b in (False, True)]
        found += [(2048, 1280, narrow, False, False), (4096, narrow, 1280, True, False), (narrow, narrow, 4096, False, True)]
    return found


def products(graft, options):
    """SGEMM beside NumPy's BLAS."""
    numpy = contenders.imported("numpy")
    if numpy is None:
        raise Failure("the products need NumPy: run this with a Python that has it, or leave them out with --only")
    name = contenders.blas_name(numpy)
    results = []
    seconds = options.seconds / 4
    for shape in shapes(options.quick):
        say("gemm {} × {} × {}{}{}".format(*shape[:3], ", a transposed" * shape[3], ", b transposed" * shape[4]))
        outcome = turns.in_turns({"graft": graft.product(*shape, seconds), name: contenders.blas(numpy, *shape, seconds)}, options.rounds)
        results.append((shape, outcome))
    rows, all_ratios = [], []
    for (m, n, k, a, b), outcome in results:
        ratios = outcome.ratios("graft", [name])
        all_ratios.append(statistics.median(ratios))
        gigaflops = 2e-9 * m * n * k
        allowed, limit = graft.allowed_seconds(gigaflops, 4e-9 * (m * k + k * n + m * n))
        share = 100 * allowed / (gigaflops / outcome.median("graft"))
        transposed = " ".join(["a"] * a + ["b"] * b)
        rates = [f"{outcome.median(c):.1f}" for c in ("graft", name)]
        rows.append([str(m), str(n), str(k), transposed, *rates, *ratio_text(ratios), f"{share:.0f} %", limit])
    heads = ["M", "N", "K", "transposed", "graft", name, "ratio", "rounds", "graft, of the limit", "set by"]
    text = table(heads, rows)
    text += f"\n\nMedian of the ratios {statistics.median(all_ratios):.2f},"
    text += f" lowest {min(all_ratios):.2f}. The rate of a turn is that of its fastest run. Both operands are as they lie, and nothing is packed before."
    return {PRODUCTS: text}


def layers(graft, folder, options):
    """Every convolution of ResNet-50 with its share of the limit."""
    path = folder / "resnet50-features.onnx"
    if not path.is_file():
        say(f"there is no {path}, so no layers are measured")
        return {}
    say("layers of ResNet-50")
    runs = [graft.bench([path, "--batch-size", 16, "--profile", "--seconds", options.seconds])["profile"] for _ in range(options.rounds)]
    # An operation may be several launches (a transform before, another after).
    operations = {}
    for position, kernel in enumerate(runs[0]):
        operations.setdefault(kernel["label"], []).append((kernel, statistics.median(run[position]["milliseconds"] for run in runs)))
    rows, total, least = [], 0.0, 0.0
    for label, launches in operations.items():
        kernel, milliseconds = launches[0][0], sum(time for _, time in launches)
        convolution = kernel.get("operation") == "conv2D"
        gigaflops, gigabytes = definition(kernel) if convolution else (
            sum(k["gigaflops"] for k, _ in launches), sum(k["megabytes"] for k, _ in launches) / 1e3)
        allowed, limit = graft.allowed_seconds(gigaflops, gigabytes)
        total, least = total + milliseconds, least + 1e3 * allowed
        if convolution:
            kernels = ", ".join(dict.fromkeys(k["kernel"] for k, _ in launches))
            share = f"{1e5 * allowed / milliseconds:.0f} %"
            name = label.removeprefix("conv2D ")
            rows.append([name, layer_text(kernel), kernels, f"{milliseconds:.3f}", f"{1e3 * gigaflops / milliseconds:.0f}", share, limit])
    heads = ["layer", "what", "kernel", "ms", "GFLOP/s", "of the limit", "set by"]
    text = table(heads, rows) + f"\n\nAll kernels together, the others too: {total:.1f} ms, {100 * least / total:.0f} % of the limit."
    return {LAYERS: text}


def definition(kernel):
    """Operations and bytes of a convolution by its shapes, in 10⁹: what it would cost without a faster method."""
    y, w = math.prod(kernel["output_shape"]), kernel["input_shapes"][1]
    return 2e-9 * y * math.prod(w[1:]), 4e-9 * (y + sum(math.prod(shape) for shape in kernel["input_shapes"]))


def layer_text(kernel):
    """"3×3, 56×56×64 → 28×28×128"."""
    x, w = kernel["input_shapes"][:2]
    y = kernel["output_shape"]
    return f"{w[2]}×{w[3]}, {x[1]}×{x[2]}×{x[3]} → {y[1]}×{y[2]}×{y[3]}"
