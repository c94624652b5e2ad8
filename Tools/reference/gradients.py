"""Writes Tests/GraftGraphTests/Fixtures/gradients.json: PyTorch's gradients, and the steps of its optimisers, in double precision.

gradients.py [FILE]     needs torch and numpy (made with Debian's python3-torch 1.13 and python3-numpy)

A case is a name that the test knows, the inputs as Graft's operations take them (images channels last), the upstream gradient, the
result, and the gradient of sum(result * upstream) with respect to each input, null where it takes none."""
import json, math, pathlib, sys
import numpy as np
import torch
import torch.nn.functional as F

path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "Tests/GraftGraphTests/Fixtures/gradients.json")
rng = np.random.default_rng(20)
cases = []


def draw(*shape, low=-1.0, high=1.0):
    """Decimals that no kink of an activation lies at, and that float32 holds as the test reads them."""
    return (np.round(rng.uniform(low, high, shape), 3) + 0.0003).astype(np.float32)


def numbers(values):
    return [float(f"{v:.7g}") for v in np.ravel(values)]


def stored(array):
    return {"shape": list(array.shape), "values": numbers(array)}


def case(name, function, *inputs, fixed=()):
    """`fixed`: the inputs, by number, that take no gradient."""
    tensors = [torch.tensor(x.astype(np.float64), requires_grad=i not in fixed) for i, x in enumerate(inputs)]
    result = function(*tensors)
    upstream = draw(*result.shape)
    (result * torch.tensor(upstream.astype(np.float64))).sum().backward()
    cases.append({
        "name": name, "inputs": [stored(x) for x in inputs], "upstream": stored(upstream), "result": stored(result.detach().numpy()),
        "gradients": [None if i in fixed else stored(t.grad.numpy()) for i, t in enumerate(tensors)]})


def first(x):
    """Channels last to channels first."""
    return x.permute(0, 3, 1, 2)


def last(x):
    return x.permute(0, 2, 3, 1)


# Convolutions: x [N, H, W, C], w [O, C/groups, kh, kw].
def convolution(name, x, w, bias=False, **options):
    inputs = [draw(*x), draw(*w)] + ([draw(w[0])] if bias else [])
    case(name, lambda x, w, b=None: last(F.conv2d(first(x), w, b, **options)), *inputs)


convolution("convolution 3x3", (2, 5, 6, 3), (4, 3, 3, 3), padding=1)
convolution("convolution bias", (1, 5, 5, 2), (3, 2, 3, 3), bias=True)
convolution("convolution stride", (2, 7, 6, 3), (5, 3, 3, 3), stride=2, padding=1)
convolution("convolution stride by direction", (1, 7, 8, 2), (3, 2, 3, 2), stride=(3, 2), padding=(1, 0))
convolution("convolution dilation", (1, 8, 7, 2), (3, 2, 3, 3), dilation=2, padding=2)
convolution("convolution stride and dilation", (1, 9, 9, 2), (2, 2, 3, 3), stride=2, dilation=2, padding=1)
convolution("convolution groups", (2, 5, 5, 6), (4, 3, 3, 3), groups=2, padding=1)
convolution("convolution depthwise", (2, 6, 5, 5), (5, 1, 3, 3), groups=5, padding=1, bias=True)
convolution("convolution depthwise stride", (1, 7, 7, 4), (4, 1, 5, 5), groups=4, padding=2, stride=2)
convolution("convolution depthwise multiplier", (1, 5, 5, 3), (6, 1, 3, 3), groups=3, padding=1)
convolution("convolution 1x1", (2, 4, 3, 7), (5, 7, 1, 1), bias=True)
convolution("convolution 1x1 stride", (2, 5, 5, 4), (3, 4, 1, 1), stride=2)
convolution("convolution 7x7 stride", (1, 9, 9, 3), (2, 3, 7, 7), stride=2, padding=3)
case("convolution padded on one side", lambda x, w: last(F.conv2d(F.pad(first(x), (0, 1, 0, 1)), w, stride=2)), draw(1, 6, 6, 2), draw(3, 2, 3, 3))
case("convolution with residual and relu", lambda x, w, b, r: torch.relu(last(F.conv2d(first(x), w, b, padding=1)) + r),
     draw(1, 4, 5, 3), draw(4, 3, 3, 3), draw(4), draw(1, 4, 5, 4))

# Pooling.
case("maximum pooling", lambda x: last(F.max_pool2d(first(x), 3, 2, padding=1)), draw(2, 7, 6, 3))
case("maximum pooling 2x2", lambda x: last(F.max_pool2d(first(x), 2)), draw(1, 6, 6, 4))
case("average pooling", lambda x: last(F.avg_pool2d(first(x), 3, 2, padding=1, count_include_pad=False)), draw(2, 7, 6, 3))
case("average pooling counting padding", lambda x: last(F.avg_pool2d(first(x), 3, 1, padding=1, count_include_pad=True)), draw(1, 5, 5, 3))
case("average pooling rounded up", lambda x: last(F.avg_pool2d(first(x), 3, 2, ceil_mode=True, count_include_pad=False)), draw(1, 6, 6, 3))
case("global mean", lambda x: first(x).mean((2, 3)), draw(3, 4, 5, 6))

# Normalisation.
positive = dict(low=0.5, high=1.5)
batch = lambda x, scale, shift, mean, variance, training: last(
    F.batch_norm(first(x), None if training else mean, None if training else variance, scale, shift, training=training, eps=1e-5))
vectors = lambda c: (draw(c, **positive), draw(c), draw(c, low=-0.2, high=0.2), draw(c, **positive))
case("batch norm in training", lambda *a: batch(*a, True), draw(4, 3, 3, 5), *vectors(5), fixed=(3, 4))
case("batch norm in inference", lambda *a: batch(*a, False), draw(2, 3, 3, 5), *vectors(5), fixed=(3, 4))
for mode in (True, False):
    case(f"convolution and batch norm in {'training' if mode else 'inference'}",
         lambda x, w, *a: batch(last(F.conv2d(first(x), w, padding=1)), *a, mode), draw(2, 4, 4, 3), draw(5, 3, 3, 3), *vectors(5), fixed=(4, 5))
case("layer norm", lambda x, s, b: F.layer_norm(x, (9,), s, b, eps=1e-6), draw(2, 5, 9), draw(9, **positive), draw(9))
case("layer norm plain", lambda x: F.layer_norm(x, (17,), eps=1e-5), draw(4, 17))
case("group norm", lambda x, s, b: last(F.group_norm(first(x), 2, s, b, eps=1e-5)), draw(2, 3, 4, 6), draw(6, **positive), draw(6))
case("local response norm", lambda x: last(F.local_response_norm(first(x), 5, alpha=0.3, beta=0.75, k=1.5)), draw(2, 2, 3, 9))


# Attention, written out.
def attention(q, k, v, scale, mask=None):
    scores = scale * q @ k.transpose(-1, -2)
    return torch.softmax(scores if mask is None else scores + mask, -1) @ v


def by_tokens(q, k, v, heads, scale, mask=None):
    b, t, width = q.shape
    split = lambda x: x.reshape(b, x.shape[1], heads, width // heads).transpose(1, 2)
    return attention(split(q), split(k), split(v), scale, mask).transpose(1, 2).reshape(b, t, width)


scale = 1 / math.sqrt(4)
case("attention tokens", lambda q, k, v: by_tokens(q, k, v, 2, scale), draw(2, 5, 8), draw(2, 7, 8), draw(2, 7, 8))
case("attention packed", lambda x: by_tokens(*x.chunk(3, -1), 2, scale), draw(2, 6, 24))
case("attention heads with mask", lambda q, k, v, m: attention(q, k, v, scale, m).transpose(1, 2).reshape(1, 5, 12),
     draw(1, 3, 5, 4), draw(1, 3, 6, 4), draw(1, 3, 6, 4), draw(1, 1, 5, 6))
hidden = np.where(np.arange(6)[None, :] > np.arange(6)[:, None], np.float32(-1e4), np.float32(0))
case("attention causal", lambda q, k, v, m: by_tokens(q, k, v, 2, scale, m), draw(1, 6, 8), draw(1, 6, 8), draw(1, 6, 8), hidden, fixed=(3,))

# Functions of one number.
wide, above = dict(low=-4, high=4), dict(low=0.2, high=3)
activations = {
    "relu": F.relu, "clip": lambda x: x.clamp(-0.5, 2), "relu6": F.relu6, "leaky relu": lambda x: F.leaky_relu(x, 0.1), "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "hard sigmoid": F.hardsigmoid, "hard swish": F.hardswish, "silu": F.silu, "gelu": F.gelu,
    "gelu tanh": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))),
    "erf": torch.erf, "exp": torch.exp, "negate": torch.neg, "absolute": torch.abs, "elu": lambda x: F.elu(x, 0.7), "softplus": F.softplus}
for name, function in activations.items():
    case(f"activation {name}", function, draw(3, 13, **wide))
for name, function in {"log": torch.log, "sqrt": torch.sqrt, "reciprocal": torch.reciprocal}.items():
    case(f"activation {name}", function, draw(3, 13, **above))
case("scale and shift", lambda x, s, b: F.silu(x * s + b), draw(2, 3, 4, 5), draw(5), draw(5))

# Products.
for a in (False, True):
    for b in (False, True):
        name = "matmul" + (" transposed a" if a else "") + (" transposed b" if b else "")
        case(name, lambda x, y: (x.transpose(-1, -2) if a else x) @ (y.transpose(-1, -2) if b else y),
             draw(*((7, 5) if a else (5, 7))), draw(*((6, 7) if b else (7, 6))))
case("matmul batched", torch.matmul, draw(2, 3, 4, 5), draw(2, 3, 5, 3))
case("matmul with an expanded batch", torch.matmul, draw(2, 3, 4, 5), draw(3, 5, 2))
case("matmul of all rows", torch.matmul, draw(3, 4, 5), draw(5, 6))
case("linear layer", lambda x, w, b: F.linear(x, w, b), draw(6, 9), draw(4, 9), draw(4))
case("linear layer with residual and gelu", lambda x, w, b, r: F.gelu(F.linear(x, w, b) + r), draw(6, 9), draw(4, 9), draw(4), draw(6, 4))

# Two tensors.
for name, function in {
        "add": torch.add, "subtract": torch.subtract, "multiply": torch.multiply, "maximum": torch.maximum, "minimum": torch.minimum}.items():
    case(f"binary {name}", function, draw(2, 3, 4, 5), draw(4, 1))
    case(f"binary {name} both broadcast", function, draw(3, 1, 5), draw(2, 1, 4, 1))
case("binary divide", torch.divide, draw(2, 3, 4), draw(3, 1, **positive))
case("binary power", torch.pow, draw(2, 3, 4, **positive), draw(3, 1, low=-2, high=2))
case("binary prelu", lambda x, s: torch.where(x < 0, x * s, x), draw(2, 3, 4, 5), draw(5))
case("residual sum with relu", lambda a, b: F.relu(a + b), draw(2, 3, 4), draw(2, 3, 4))

# Softmax and losses. Targets of the cross-entropy are smoothed classes.
case("softmax", lambda x: torch.softmax(x, 1), draw(3, 7, **wide))
case("softmax inner axis", lambda x: torch.softmax(x, 1), draw(2, 5, 3, **wide))
case("log-softmax", lambda x: torch.log_softmax(x, 1), draw(3, 7, **wide))
labels = np.array([2, 0, 4, 1])
case("cross-entropy of classes", lambda x: F.cross_entropy(x, torch.tensor(labels), reduction="none"), draw(4, 5, **wide))
smoothed = (np.eye(5)[labels] * 0.9 + 0.1 / 5).astype(np.float32)
case("cross-entropy smoothed", lambda x, t: F.cross_entropy(x, t, reduction="none"), draw(4, 5, **wide), smoothed, fixed=(1,))
case("cross-entropy smoothed by class", lambda x: F.cross_entropy(x, torch.tensor(labels), reduction="none", label_smoothing=0.1), draw(4, 5, **wide))
several = (rng.uniform(size=(4, 5)) < 0.4).astype(np.float32)
case("binary cross-entropy", lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none").sum(1), draw(4, 5, **wide), several, fixed=(1,))
case("squared", lambda x, t: F.mse_loss(x, t, reduction="none").sum(1) / 2, draw(4, 5), draw(4, 5), fixed=(1,))
case("huber", lambda x, t: F.huber_loss(x, t, reduction="none", delta=0.6).sum(1), draw(4, 5, **wide), draw(4, 5), fixed=(1,))

# Reductions and shapes.
case("mean", lambda x: x.mean(1, keepdim=True), draw(3, 5, 4))
case("mean of the last", lambda x: x.mean(2), draw(3, 5, 4))
case("sum", lambda x: x.sum((1, 2)), draw(3, 5, 4))
case("maximum", lambda x: x.amax(1), draw(3, 5, 4))
case("pad", lambda x: F.pad(x, (1, 0, 0, 2, 1, 1), value=0.5), draw(2, 3, 4))
case("slice", lambda x: x[:, 1:6:2, 2:5], draw(2, 6, 6))
case("concat", lambda *x: torch.cat(x, 2), draw(2, 3, 1), draw(2, 3, 4), draw(2, 3, 2))
case("transpose", lambda x: x.permute(2, 0, 3, 1), draw(2, 3, 4, 5))
case("reshape", lambda x: x.reshape(6, 20), draw(2, 3, 4, 5))
case("expand", lambda x: x.expand(2, 3, 4), draw(3, 1))
case("value that is used twice", lambda x, w: torch.tanh(x @ w) * (x @ w) + x, draw(4, 4), draw(4, 4))


def optimiser(name, make, clip=None):
    start, gradients = draw(9), draw(5, 9)
    parameter = torch.nn.Parameter(torch.tensor(start.astype(np.float64)))
    steps, method = [], make([parameter])
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient.astype(np.float64))
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([parameter], clip)
        method.step()
        steps.append(numbers(parameter.detach().numpy()))
    return {"name": name, "start": numbers(start), "gradients": [numbers(g) for g in gradients], "steps": steps}


sgd, adamw = torch.optim.SGD, torch.optim.AdamW
optimisers = [
    optimiser("sgd", lambda p: sgd(p, lr=0.1)),
    optimiser("sgd momentum", lambda p: sgd(p, lr=0.1, momentum=0.9)),
    optimiser("sgd nesterov", lambda p: sgd(p, lr=0.1, momentum=0.9, nesterov=True)),
    optimiser("sgd weight decay", lambda p: sgd(p, lr=0.1, momentum=0.9, weight_decay=0.3)),
    optimiser("sgd nesterov weight decay", lambda p: sgd(p, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.3)),
    optimiser("sgd clipped", lambda p: sgd(p, lr=0.1, momentum=0.9), clip=0.5),
    optimiser("adamw", lambda p: adamw(p, lr=0.05, weight_decay=0)),
    optimiser("adamw weight decay", lambda p: adamw(p, lr=0.05, weight_decay=0.3)),
    optimiser("adamw betas", lambda p: adamw(p, lr=0.05, betas=(0.7, 0.95), eps=1e-4, weight_decay=0.1)),
]

lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
steps = ",\n".join(json.dumps(run, separators=(",", ":")) for run in optimisers)
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(f'{{"cases":[\n{lines}\n],\n"optimisers":[\n{steps}\n]}}\n')
print(f"{path}: {len(cases)} cases, {len(optimisers)} optimisers, {path.stat().st_size} bytes")
