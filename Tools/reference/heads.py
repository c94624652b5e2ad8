"""Writes the fixtures of Tests/GraftTrainingTests: optima of softmax regression and classification metrics, by scikit-learn.

heads.py [FOLDER]     needs numpy and scikit-learn (made with 1.9.1)"""
import json, pathlib, sys
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support
from sklearn.preprocessing import StandardScaler

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "Tests/GraftTrainingTests/Fixtures")
rng = np.random.default_rng(7)


def optimum(x, y, l2):
    """Weight, bias and value of the minimum of mean cross-entropy + l2/2 |W|^2."""
    n, classes = len(x), int(y.max()) + 1
    # Two classes: scikit-learn fits the difference w of the two rows, which are w/2 and -w/2; |W|^2 is |w|^2/2.
    strength = (2 if classes == 2 else 1) / (l2 * n)
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=100_000, solver="newton-cholesky").fit(x, y)
    weight, bias = model.coef_, model.intercept_
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    logits = x @ weight.T + bias
    logits -= logits.max(1, keepdims=True)
    loss = (np.log(np.exp(logits).sum(1)) - logits[np.arange(n), y]).mean()
    return weight, bias, loss + l2 / 2 * (weight ** 2).sum()


def rounded(values, digits=4):
    """Short decimals that float32 reads back exactly enough: the problem is defined by what is stored."""
    return np.float64([float(f"{v:.{digits}g}") for v in np.ravel(values)]).reshape(np.shape(values)).astype(np.float32).astype(np.float64)


def imbalanced():
    y = np.repeat(np.arange(5), [80, 25, 10, 4, 1])
    return rng.standard_normal((len(y), 20)) + 0.8 * rng.standard_normal((5, 20))[y], y


def wide():
    y = np.arange(24) % 4
    return np.maximum(rng.standard_normal((24, 60)) + 0.5 * rng.standard_normal((4, 60))[y], 0), y


def subset(load, count):
    x, y = load(return_X_y=True)
    rows = np.sort(rng.permutation(len(x))[:count])
    return x[rows], y[rows]


problems = []
for name, (x, y), strengths, standardise in [
    ("iris", load_iris(return_X_y=True), (1e-1, 1e-3), False),
    ("wine, badly scaled", load_wine(return_X_y=True), (1e-1, 1e-3), False),
    ("wine, standardised", load_wine(return_X_y=True), (1e-2,), True),
    ("breast cancer, badly scaled, two classes", subset(load_breast_cancer, 200), (1e-1, 1e-3), False),
    ("digits", subset(load_digits, 250), (1e-1, 1e-3), False),
    ("imbalanced", imbalanced(), (1e-1, 1e-3), False),
    ("fewer samples than features", wide(), (1.0, 1e-2), False),
]:
    x = rounded(x)
    seen = StandardScaler().fit_transform(x) if standardise else x
    optima = []
    for l2 in strengths:
        weight, bias, objective = optimum(seen, y, l2)
        if standardise:
            scaler = StandardScaler().fit(x)
            weight = weight / scaler.scale_
            bias = bias - weight @ scaler.mean_
        optima.append({"l2": l2, "objective": objective, "weight": [float(f"{v:.8g}") for v in weight.ravel()], "bias": bias.tolist()})
    problems.append({
        "name": name, "rows": len(x), "dimension": x.shape[1], "classes": int(y.max()) + 1, "standardise": standardise,
        "x": [float(f"{v:.4g}") for v in x.ravel()], "y": y.tolist(), "optima": optima})
(folder / "optima.json").write_text(json.dumps(problems, separators=(",", ":")))


def metrics(name, logits, labels):
    logits = rounded(logits, 5)
    classes = logits.shape[1]
    order = np.argsort(-logits, axis=1, kind="stable")
    predicted = order[:, 0]
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    macro = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    single = precision_recall_fscore_support(labels, predicted, labels=range(classes), zero_division=0)
    return {
        "name": name, "classes": classes, "logits": logits.ravel().tolist(), "labels": labels.tolist(),
        "top1": accuracy_score(labels, predicted), "top5": float((order[:, :5] == labels[:, None]).any(1).mean()),
        "log_loss": log_loss(labels, probabilities, labels=range(classes)),
        "macro_precision": macro[0], "macro_recall": macro[1], "macro_f1": macro[2],
        "precision": single[0].tolist(), "recall": single[1].tolist(), "f1": single[2].tolist(), "support": single[3].tolist(),
        "confusion": confusion_matrix(labels, predicted, labels=range(classes)).tolist()}


def noisy(samples, classes, shown=None, strength=2.0):
    labels = rng.integers(0, shown or classes, samples)
    logits = rng.standard_normal((samples, classes))
    logits[np.arange(samples), labels] += strength
    return logits, labels


absent = noisy(40, 7, shown=4)
absent[0][:, 6] = -50          # neither shown nor predicted: not in the macro average
ties = noisy(60, 6)
ties = (np.round(ties[0]), ties[1])
certain = noisy(12, 3)
certain = (certain[0] * 200, certain[1])     # probabilities that are clipped
cases = [
    metrics("five classes", *noisy(80, 5)), metrics("two classes", *noisy(30, 2)), metrics("absent classes", *absent),
    metrics("ties", *ties), metrics("all logits equal", np.zeros((9, 8)), np.arange(9) % 8), metrics("certain and wrong", *certain),
    metrics("a single sample", *noisy(1, 4)), metrics("many classes, few samples", *noisy(50, 30)),
]
(folder / "metrics.json").write_text(json.dumps(cases, separators=(",", ":")))
