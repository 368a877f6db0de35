"""Writes metrics.json: scikit-learn's and scipy's values for tests/grading/report_metrics.rs."""
import json, pathlib
import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as m
r = np.random.default_rng(0)
cases = []


def add(y, p, q, z, b):
    Y, P = y.astype(float), p.astype(float)
    cases.append(dict(y=Y.tolist(), p=P.tolist(), q=q.tolist(), z=z.ravel().tolist(), b=b.tolist(),
        r2=m.r2_score(Y, P), pearson=pearsonr(P, Y)[0], spearman=spearmanr(P, Y)[0],
        mae=m.mean_absolute_error(Y, P), auc=m.roc_auc_score(q, P),
        silhouette=float(m.silhouette_score(z.astype(float), b)),
        davies_bouldin=float(m.davies_bouldin_score(z.astype(float), b))))


for n in (5, 40, 200):
    y = (r.random(n).round(1)).astype(np.float32)
    p = (0.6 * y + 0.4 * r.random(n)).round(2).astype(np.float32)
    q = y >= np.median(y)
    z = (r.normal(size=(n, 3)) + y[:, None]).astype(np.float32)
    b = np.minimum((y * 3).astype(int), 2); b[0] = 9  # a bin of one
    b[1:3] = 0
    add(y, p, q, z, b)
# Bins 0 and 1 have the same centroid, the origin: with a third bin, and by themselves.
z = np.array([[-1, 0], [1, 0], [0, -2], [0, 2], [0, 0], [4, 8], [5, 8]], np.float32)
b = np.array([0, 0, 1, 1, 1, 2, 2])
y = np.linspace(0, 1, 7).round(1).astype(np.float32)
p = y[[1, 0, 2, 4, 3, 5, 6]]
for n in (7, 5):
    add(y[:n], p[:n], y[:n] > 0.4, z[:n], b[:n])
pathlib.Path(__file__).with_name("metrics.json").write_text(json.dumps(cases) + "\n")
