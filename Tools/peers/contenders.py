"""Graft and its peers: each gives functions that measure a rate."""
import importlib
import json
import subprocess
import sys
import tempfile

from . import turns
from .failure import Failure


def imported(name):
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class Graft:
    """The command, and the highest peak that any of its runs has measured."""

    def __init__(self, command, threads):
        self.command, self.threads = command, threads
        self.peak = None
        device = self.bench(["peak"])
        self.description = f"{device['name']}, {device['instruction_set']}, {device['threads']} threads"
        self.version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def bench(self, arguments):
        run = [self.command, "bench", *map(str, arguments), "--device", "cpu", "--threads", str(self.threads), "--json"]
        done = subprocess.run(run, capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"'{' '.join(run)}' failed: {done.stderr.strip()}")
        result = json.loads(done.stdout)
        if "peak" in result:
            self.note(result["peak"])
        return result

    def note(self, peak):
        """Keeps the higher figure of each kind: whatever else runs on a machine only ever lowers one."""
        if self.peak is None:
            self.peak = peak
            return
        name = "gigaflops_per_second"
        self.peak[name] = max(self.peak[name], peak[name])
        for mine, other in zip(self.peak["bandwidths"], peak["bandwidths"]):
            for name in ("read_gigabytes_per_second", "triad_gigabytes_per_second"):
                mine[name] = max(mine[name], other[name])

    def allowed_seconds(self, gigaflops, gigabytes):
        """The least time the peak allows (DevicePeak.allowed), and what sets it."""
        bandwidths = self.peak["bandwidths"]
        held = [b for b in bandwidths if b["working_set_bytes"] >= gigabytes * 1e9] or bandwidths[-1:]
        rate = max(max(b["read_gigabytes_per_second"], b["triad_gigabytes_per_second"]) for b in held)
        arithmetic, memory = gigaflops / self.peak["gigaflops_per_second"], gigabytes / rate
        return max(arithmetic, memory), "arithmetic" if arithmetic >= memory else "memory"

    def model(self, path, batch, seconds):
        arguments = [path, "--batch-size", batch, "--seconds", seconds]
        return lambda: self.bench(arguments)["images_per_second"]["median"]

    def output(self, path, x, name, precision):
        """A network's result for x."""
        numpy = imported("numpy")
        with tempfile.TemporaryDirectory() as folder:
            numpy.save(f"{folder}/x.npy", x)
            run = [self.command, "run", path, "--input", f"{folder}/x.npy", "--output", f"{folder}/y.npy", "--output-name", name]
            run = list(map(str, run)) + ["--device", "cpu", "--precision", precision]
            done = subprocess.run(run, capture_output=True, text=True)
            if done.returncode:
                raise Failure(f"'{' '.join(run)}' failed: {done.stderr.strip()}")
            return numpy.load(f"{folder}/y.npy").astype(numpy.float64)

    def product(self, m, n, k, transpose_a, transpose_b, seconds):
        """GFLOP/s of the fastest run: see `blas`."""
        flags = ["--transpose-a"] * transpose_a + ["--transpose-b"] * transpose_b
        arguments = ["gemm", "--m", m, "--n", n, "--k", k, "--seconds", seconds, *flags]

        def rate():
            result = self.bench(arguments)
            return 1e3 * result["gigaflops"] / result["milliseconds"]["minimum"]

        return rate


def onnx_runtime(path, x, threads, seconds):
    ort = imported("onnxruntime")
    if ort is None:
        return {}
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed, output = {session.get_inputs()[0].name: x}, [session.get_outputs()[0].name]
    return {"ONNX Runtime": lambda: len(x) / turns.median_seconds(lambda: session.run(output, feed), seconds)}


def openvino(path, x, threads, seconds):
    ov = imported("openvino")
    if ov is None:
        return {}
    core = ov.Core()
    network = core.read_model(str(path))
    network.reshape({network.inputs[0].get_any_name(): list(x.shape)})
    # Without the hint, reduced precision would be its choice.
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()
    return {"OpenVINO": lambda: len(x) / turns.median_seconds(lambda: request.infer([x]), seconds)}


def openvino_in_bfloat16(path, x, output):
    """A network's result for x, or None where it is not installed or takes another precision on this processor."""
    ov = imported("openvino")
    if ov is None:
        return None
    core = ov.Core()
    network = core.read_model(str(path))
    network.reshape({network.inputs[0].get_any_name(): list(x.shape)})
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    return compiled([x])[output] if compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.bf16 else None


def pytorch(name, x, threads, seconds):
    """Torchvision's network of that name without its classifier, as it is and compiled; nothing for a network it lacks."""
    torch, torchvision = imported("torch"), imported("torchvision")
    base = name.removesuffix("-features")
    if torch is None or torchvision is None or not hasattr(torchvision.models, base):
        return {}
    torch.set_num_threads(threads)
    network = getattr(torchvision.models, base)(weights=None).eval()
    for head in ("fc", "classifier"):
        if hasattr(network, head):
            setattr(network, head, torch.nn.Identity())
    network = network.to(memory_format=torch.channels_last)
    images = torch.from_numpy(x).to(memory_format=torch.channels_last)

    def rate(run):
        def call():
            with torch.inference_mode():
                run(images)

        return lambda: len(x) / turns.median_seconds(call, seconds)

    found = {"PyTorch": rate(network)}
    try:
        compiled = torch.compile(network)
        with torch.inference_mode():
            compiled(images)
        found["PyTorch, compiled"] = rate(compiled)
    except Exception as error:  # No C++ compiler, most of all; the eager figure stands without it.
        print(f"bench: PyTorch cannot compile {base} here: {error.__class__.__name__}", file=sys.stderr)
    return found


def blas(numpy, m, n, k, transpose_a, transpose_b, seconds):
    """NumPy's product, which hands transposed views to its BLAS as they are: GFLOP/s of the fastest run.

    Of the fastest, because a product takes microseconds, and threads that wait for one another lose a hundred times that
    whenever anything else gets a core: on a busy machine the median tells how each library waits, not how it computes."""
    random = numpy.random.default_rng(0)

    def matrix(rows, columns, transposed):
        values = random.standard_normal((columns, rows) if transposed else (rows, columns), dtype=numpy.float32)
        return values.T if transposed else values

    a, b = matrix(m, k, transpose_a), matrix(k, n, transpose_b)
    y = numpy.empty((m, n), numpy.float32)
    return lambda: 2e-9 * m * n * k / min(turns.run_seconds(lambda: numpy.matmul(a, b, out=y), seconds))


def blas_name(numpy):
    """What NumPy was built with: "openblas 0.3.30"."""
    library = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{library['name'].removeprefix('scipy-')} {library['version']}"
