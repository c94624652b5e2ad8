"""Writes targets.json of Tests/GraftTrainingTests: optima, errors and metrics for many labels and for numbers, by scikit-learn.

targets.py [FOLDER]     needs numpy and scikit-learn (made with 1.9.1)"""
import json, pathlib, sys, warnings
import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import (average_precision_score, f1_score, hamming_loss, log_loss, mean_absolute_error, precision_score, r2_score,
                             recall_score, root_mean_squared_error, accuracy_score)
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

warnings.filterwarnings("ignore")
folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "Tests/GraftTrainingTests/Fixtures")
rng = np.random.default_rng(11)


def short(values, digits=4):
    """Short decimals that are the same in float32: the problem is defined by what is stored."""
    return np.float64([float(f"{v:.{digits}g}") for v in np.ravel(values)]).reshape(np.shape(values)).astype(np.float32).astype(np.float64)


def flat(values): return [float(f"{v:.9g}") for v in np.ravel(values)]


def label_metrics(name, logits, y):
    logits = short(logits, 5)
    p, said = 1 / (1 + np.exp(-logits)), (logits >= 0).astype(int)
    # One by one: of a single column scikit-learn takes 0 for a class as well.
    each = lambda score: [float(score(y[:, c], said[:, c], zero_division=0)) for c in range(y.shape[1])]
    micro, macro = f1_score(y.ravel(), said.ravel(), zero_division=0), float(np.mean(each(f1_score)))
    if y.shape[1] > 1:
        assert abs(micro - f1_score(y, said, average="micro", zero_division=0)) < 1e-12
        assert abs(macro - f1_score(y, said, average="macro", zero_division=0)) < 1e-12
    return {
        "name": name, "width": y.shape[1], "logits": flat(logits), "targets": y.ravel().tolist(),
        "meanAveragePrecision": average_precision_score(y, logits, average="macro"),
        "averagePrecision": [average_precision_score(y[:, c], logits[:, c]) for c in range(y.shape[1])],
        "microF1": micro, "macroF1": macro, "f1": each(f1_score), "precision": each(precision_score), "recall": each(recall_score),
        "subsetAccuracy": accuracy_score(y, said), "hammingLoss": hamming_loss(y, said),
        "logLoss": float(np.mean([log_loss(y[:, c], p[:, c], labels=[0, 1]) for c in range(y.shape[1])])),
        "support": y.sum(0).tolist()}


def number_metrics(name, told, y):
    told = short(told, 6)
    raw = dict(multioutput="raw_values")
    return {
        "name": name, "width": y.shape[1], "outputs": flat(told), "targets": y.ravel().tolist(),
        "mae": mean_absolute_error(y, told, **raw).tolist(), "rmse": root_mean_squared_error(y, told, **raw).tolist(),
        "r2": r2_score(y, told, **raw).tolist(), "meanMAE": mean_absolute_error(y, told), "meanRMSE": root_mean_squared_error(y, told),
        "meanR2": r2_score(y, told)}


y = (rng.random((60, 5)) < [0.5, 0.3, 0.1, 0.9, 0.5]).astype(int)
noise = 1.5 * rng.standard_normal(y.shape) + 2 * y - 1
absent, everywhere = y.copy(), y.copy()
absent[:, 2], everywhere[:, 3] = 0, 1
labels = [
    label_metrics("five labels", noise, y), label_metrics("ties", np.round(noise), y), label_metrics("a label that nothing shows", noise, absent),
    label_metrics("a label that everything shows", noise, everywhere), label_metrics("all logits equal", np.zeros_like(noise), y),
    label_metrics("certain and wrong", 40 * noise, y), label_metrics("one label", noise[:, :1], y[:, :1]),
    label_metrics("a single sample", noise[:1], y[:1])]

z = rng.standard_normal((40, 3)) * [1, 100, 0.01] + [0, 1000, 5]
constant = z.copy()
constant[:, 1] = 7
exact = constant + rng.standard_normal(z.shape) * [0.1, 0, 0.1]
numbers = [
    number_metrics("three targets", z + rng.standard_normal(z.shape) * [0.5, 30, 0.02], z), number_metrics("one target", z[:, :1] * 0.9, z[:, :1]),
    number_metrics("a constant target, missed", constant + 0.5, constant), number_metrics("a constant target, hit", exact, constant)]

# Logistic regressions, one a label; lambda = 1 / (C N). The features of the second are on very different scales.
optima = []
for name, scale in [("alike", np.ones(12)), ("badly scaled", 10.0 ** (np.arange(12) % 4 - 1))]:
    x = short(np.maximum(rng.standard_normal((150, 12)), -0.5) * scale)
    w = rng.standard_normal((4, 12)) / scale
    targets = (rng.random((150, 4)) < 1 / (1 + np.exp(-(x @ w.T) - [0, 1, -2, 0.5]))).astype(int)
    for l2 in (1e-1, 1e-3):
        fits = [LogisticRegression(C=1 / (l2 * 150), tol=1e-12, max_iter=100_000, solver="newton-cholesky").fit(x, targets[:, c]) for c in range(4)]
        weight, bias = np.concatenate([f.coef_ for f in fits]), np.concatenate([f.intercept_ for f in fits])
        logits = x @ weight.T + bias
        objective = (np.logaddexp(0, logits) - targets * logits).sum(1).mean() + l2 / 2 * (weight ** 2).sum()
        optima.append({
            "name": name, "rows": 150, "dimension": 12, "width": 4, "x": flat(x), "targets": targets.ravel().tolist(), "l2": l2,
            "objective": objective, "weight": flat(weight), "bias": flat(bias)})

# Ridge regression of two numbers in very different units, by all samples and by leaving out each; more features than samples too.
ridges = []
alphas = [1e-2, 1e-1, 1, 10, 100, 1000]
for rows, width in [(80, 10), (20, 30)]:
    x = short(rng.standard_normal((rows, width)) + 1)
    t = short(x @ rng.standard_normal((width, 2)) * [1, 1000] + rng.standard_normal((rows, 2)) * [3, 3000] + [10, -5000], 6)
    fit = Ridge(alpha=10, solver="svd", tol=1e-12).fit(x, t)
    single = []
    for column in range(2):
        cv = RidgeCV(alphas=alphas, store_cv_results=True).fit(x, t[:, column])
        single.append({"alpha": cv.alpha_, "errors": cv.cv_results_.mean(0).tolist()})
    ridges.append({
        "rows": rows, "dimension": width, "x": flat(x), "targets": flat(t), "alphas": alphas, "weight": flat(fit.coef_),
        "bias": flat(fit.intercept_), "single": single})

# Huber's loss on one number with outliers, in units of the standard deviation: lambda/2 |w|^2 added, delta 1. Gradients are checked there.
x = short(rng.standard_normal((90, 5)))
t = short(x @ rng.standard_normal(5) * 3 + rng.standard_normal(90) * 0.3 + 20)
t[::15] += 40
huber = {"rows": 90, "dimension": 5, "x": flat(x), "targets": flat(t)}

x, q = short(rng.standard_normal((50, 6))), short(rng.standard_normal((15, 6)))
yk, tk = (rng.random((50, 3)) < 0.4).astype(int), short(rng.standard_normal((50, 2)) * [1, 100], 5)
classifier = KNeighborsClassifier(n_neighbors=5).fit(x, yk)
neighbours = {
    "rows": 50, "queries": 15, "dimension": 6, "x": flat(x), "q": flat(q), "labels": yk.ravel().tolist(), "numbers": flat(tk),
    "shares": flat(np.stack([p[:, 1] for p in classifier.predict_proba(q)], 1)),
    "means": flat(KNeighborsRegressor(n_neighbors=5).fit(x, tk).predict(q))}

(folder / "targets.json").write_text(json.dumps(
    {"labels": labels, "numbers": numbers, "optima": optima, "ridges": ridges, "huber": huber, "neighbours": neighbours}, separators=(",", ":")))
