"""Writes paired.json: what scikit-learn and scipy make of weighted takes and neighbours, for tests/grading/report_paired.rs."""
import json, pathlib
import numpy as np
from scipy.stats import pearsonr, somersd
from sklearn import metrics as m
from sklearn.neighbors import KNeighborsRegressor
r = np.random.default_rng(16)


def order(y, p, melody, w):
    """Of pairs of one melody with different ratings, the share in order: by hand, each pair with its weight."""
    right = whole = 0.
    for i in range(len(y)):
        for j in range(len(y)):
            if melody[i] is not None and melody[i] == melody[j] and y[i] < y[j]:
                whole += w[i] * w[j]
                right += w[i] * w[j] * ((p[i] < p[j]) + .5 * (p[i] == p[j]))
    return right / whole


def somers(y, p, melody, w):
    """The same of whole weights, by Somers' D of each melody with its takes repeated."""
    right = whole = 0.
    for name in {name for name in melody if name is not None}:
        own = np.repeat(np.flatnonzero([name == other for other in melody]), w[[name == other for other in melody]])
        pairs = sum((y[own][:, None] < y[own][None]).ravel())
        if pairs:
            d = somersd(y[own], p[own]).statistic if len(set(p[own])) > 1 else 0.  # scipy has NaN where all tie
            right += pairs * (d + 1) / 2
            whole += pairs
    return right / whole


def calibration(y, p, w):
    """Whole weights: the takes repeated ten times that often, sorted, in ten rows; equal predictions share their mean rating."""
    levels, of = np.unique(p, return_inverse=True)
    weight = np.bincount(of, w)
    mean = np.bincount(of, w * y)[weight > 0] / weight[weight > 0]
    times = 10 * weight[weight > 0].astype(int)
    p, y = (np.repeat(v, times).reshape(10, -1).mean(1) for v in (levels[weight > 0], mean))
    return abs(p - y).mean()


def f32(x):
    """What is read back of the few digits that are written."""
    return np.asarray(x, np.float32).astype(float)


def case(n, digits, whole):
    y, melody = r.random(n).round(1), [None if r.random() < .1 else int(r.integers(0, 1 + n // 8)) for _ in range(n)]
    p, q = (.6 * y + .4 * r.random(n)).round(digits), (.5 * y + .4 * r.random(n)).round(3)
    passes, passed = y + r.normal(0, .2, n) > .5, p > .45
    w = r.integers(0, 4, n) if whole else np.where(r.random(n) < .2, 0, r.random(n).round(3))
    out = {name: v.tolist() for name, v in dict(y=y, p=p, q=q, passes=passes, passed=passed, w=w).items()} | dict(melody=melody)
    y, p, q = f32(y), f32(p), f32(q)
    c = np.cov(p, y, aweights=w)
    values = dict(r2=m.r2_score(y, p, sample_weight=w), pearson=c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]),
        mae=m.mean_absolute_error(y, p, sample_weight=w), auc=m.roc_auc_score(passes, p, sample_weight=w),
        accuracy=m.accuracy_score(passes, passed, sample_weight=w), order=order(y, p, melody, w),
        neighbours=m.r2_score(y, q, sample_weight=w))
    if whole:
        values["calibration"] = calibration(y, p, w)
        again = np.repeat(np.arange(n), w)
        assert abs(values["pearson"] - pearsonr(p[again], y[again])[0]) < 1e-12
        assert abs(values["order"] - somers(y, p, melody, w)) < 1e-12
    return out | dict(values=values)


def nearest(known, asked, width, k, metric):
    a, b, ratings = r.normal(size=(known, width)).round(2), r.normal(size=(asked, width)).round(2), r.random(known).round(2)
    fitted = KNeighborsRegressor(n_neighbors=min(k, known), metric=metric, algorithm="brute").fit(f32(a), f32(ratings))
    return dict(known=a.ravel().tolist(), ratings=ratings.tolist(), asked=b.ravel().tolist(), width=width, k=k, metric=metric,
        found=fitted.predict(f32(b)).tolist())


cases = [case(*how) for how in ((12, 2, True), (40, 1, True), (150, 3, True), (150, 1, True), (40, 1, False), (150, 2, False))]
neighbours = [nearest(*how) for how in ((1, 2, 1, 1, "euclidean"), (30, 20, 3, 5, "euclidean"), (30, 20, 3, 5, "cosine"),
    (200, 20, 16, 10, "euclidean"), (200, 20, 16, 10, "cosine"), (7, 4, 2, 10, "cosine"))]
pathlib.Path(__file__).with_name("paired.json").write_text(json.dumps(dict(cases=cases, neighbours=neighbours)) + "\n")
