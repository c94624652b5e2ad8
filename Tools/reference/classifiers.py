"""Writes Tests/GraftTrainingTests/Fixtures/classifiers.json: what scikit-learn's classifiers say about small data sets.

classifiers.py [FOLDER]     needs numpy, scipy and scikit-learn (made with 1.9.1)"""
import json, pathlib, sys
import numpy as np
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler, normalize

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "Tests/GraftTrainingTests/Fixtures")
rng = np.random.default_rng(11)
ALPHAS = [1e-3, 1e-1, 1.0, 10.0, 1e3]


def samples(n, d, classes, shift=0.0, spread=0.8):
    y = np.sort(rng.integers(0, classes, n))
    y[:classes] = np.arange(classes)
    centres = spread * rng.standard_normal((classes, d))
    x = np.maximum(rng.standard_normal((n, d)) + centres[y], -1) + shift
    # Short decimals, as float32: the problem is defined by what is stored.
    x = np.float64([float(f"{v:.4g}") for v in x.ravel()]).astype(np.float32).astype(np.float64).reshape(x.shape)
    return x, y


def transformed(kind, fitted, x):
    if kind == "l2":
        return normalize(x)
    if kind == "standardise":
        return StandardScaler().fit(fitted).transform(x)
    return x


def digits(values):
    return [float(f"{v:.9g}") for v in np.ravel(values)]


def one_vs_rest(decision):
    return np.stack([-decision, decision], 1) if decision.ndim == 1 else decision


cases = []
for name, (n, d, classes, shift), kind in [
    ("more samples than features", (60, 7, 4, 0.0), "none"),
    ("fewer samples than features", (25, 40, 3, 0.0), "none"),
    ("two classes", (40, 6, 2, 0.0), "none"),
    ("two classes, fewer samples than features", (15, 30, 2, 0.0), "none"),
    ("far from the origin", (50, 9, 3, 100.0), "none"),
    ("standardised", (50, 9, 3, 3.0), "standardise"),
    ("of unit length", (50, 9, 3, 0.5), "l2"),
]:
    x, y = samples(n + 20, d, classes, shift)
    rows = rng.permutation(n + 20)
    rows = np.concatenate([np.arange(classes), rows[rows >= classes]])   # every class is trained on
    x, y = x[rows], y[rows]
    # The first `classes` rows are one of each class.
    train, test = (x[:n], y[:n]), (x[n:], y[n:])
    assert len(set(train[1])) == classes
    a, b = transformed(kind, train[0], train[0]), transformed(kind, train[0], test[0])
    ridge = RidgeClassifierCV(alphas=ALPHAS, store_cv_results=True).fit(a, train[1])
    errors = ridge.cv_results_.reshape(n, -1, len(ALPHAS)).mean((0, 1))
    neighbours = []
    for metric in ("euclidean", "cosine"):
        for k in (1, 5, 8):
            for temperature in (None, 0.3):
                weights = "uniform" if temperature is None else (lambda t: lambda distances: np.exp(-(distances - distances[:, :1]) / t))(temperature)
                model = KNeighborsClassifier(k, metric=metric, algorithm="brute", weights=weights).fit(a, train[1])
                neighbours.append({
                    "distance": metric, "k": k, "temperature": temperature, "probabilities": digits(model.predict_proba(b)),
                    "predictions": model.predict(b).tolist()})
    centroid = NearestCentroid().fit(a, train[1])
    cases.append({
        "name": name, "normalisation": kind, "classes": classes, "dimension": d,
        "x": [float(f"{v:.9g}") for v in train[0].ravel()], "y": train[1].tolist(), "test": [float(f"{v:.9g}") for v in test[0].ravel()],
        "ridge": {"alphas": ALPHAS, "errors": digits(errors), "best": float(ridge.alpha_), "decision": digits(one_vs_rest(ridge.decision_function(b)))},
        "neighbours": neighbours, "centroid": centroid.predict(b).tolist()})

weighted = []
for name, counts in [("three classes", (60, 15, 5)), ("four classes", (40, 30, 8, 4))]:
    y = np.repeat(np.arange(len(counts)), counts)
    x = rng.standard_normal((len(y), 6)) + 0.9 * rng.standard_normal((len(counts), 6))[y]
    x = np.float64([float(f"{v:.4g}") for v in x.ravel()]).astype(np.float32).astype(np.float64).reshape(x.shape)
    for l2 in (1e-1, 1e-3):
        model = LogisticRegression(C=1 / (l2 * len(y)), class_weight="balanced", tol=1e-10, max_iter=100_000, solver="newton-cholesky").fit(x, y)
        weight = len(y) / (len(counts) * np.float64(counts))[y]
        logits = x @ model.coef_.T + model.intercept_
        logits -= logits.max(1, keepdims=True)
        loss = (weight * (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y])).sum() / weight.sum()
        weighted.append({
            "name": name, "l2": l2, "classes": len(counts), "dimension": 6, "x": [float(f"{v:.9g}") for v in x.ravel()], "y": y.tolist(),
            "weight": digits(model.coef_), "objective": loss + l2 / 2 * float((model.coef_ ** 2).sum())})

quantiles = [{"degrees": n, "p": p, "t": float(student.ppf(p, n))} for n in (1, 2, 4, 9, 29, 1000) for p in (0.9, 0.975, 0.999)]
(folder / "classifiers.json").write_text(json.dumps({"cases": cases, "weighted": weighted, "quantiles": quantiles}, separators=(",", ":")))
