"""Writes grades.json: what scikit-learn and krippendorff make of grades on a scale, for tests/grading/report_grades.rs."""
import collections, json, pathlib
import krippendorff
import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as m
from sklearn.isotonic import IsotonicRegression
r = np.random.default_rng(15)


def levels(p, y):
    p, y = np.array(p), np.array(y)
    return dict(grade_mae=m.mean_absolute_error(y, p), grade_accuracy=m.accuracy_score(y, p),
        within_one=float(np.mean(abs(p - y) <= 1)), balanced_accuracy=m.balanced_accuracy_score(y, p),
        weighted_f1=m.f1_score(y, p, average="weighted", zero_division=0))


def ratings(p, y):
    return dict(r2=m.r2_score(y, p), pearson=pearsonr(p, y)[0], spearman=spearmanr(p, y)[0], mae=m.mean_absolute_error(y, p))


def alpha(table):
    """Of graders by takes, NaN where there is no grade."""
    return krippendorff.alpha(table, level_of_measurement="ordinal")


def plain(table):
    return [[None if np.isnan(v) else v for v in row] for row in np.asarray(table, float).tolist()]


def majority(grades):
    grades = [g for g in grades if not np.isnan(g)]
    if len(grades) < 2:
        return np.nan
    grade, count = collections.Counter(grades).most_common(1)[0]
    return grade if 2 * count > len(grades) else np.nan


def mean(dicts):
    return {key: float(np.mean([d[key] for d in dicts])) for key in dicts[0]}


def several(n, missing, pass_):
    """Five passes of three experts, A, B, A, C, C, on a scale of four; predictions in 0..1; who passed."""
    experts = [[0, 2], [1], [3, 4]]
    truth = r.integers(0, 4, n)
    table = np.clip(truth + r.integers(-1, 2, (5, n)) * (r.random((5, n)) < .5), 0, 3).astype(float)
    table[r.random((5, n)) < missing] = np.nan
    p = np.clip(truth / 3 + r.normal(0, .2, n), 0, 1).round(3)
    made = np.floor(3 * p + .5)
    means = np.array([np.nanmean(table[e], 0) / 3 for e in experts])
    out = dict(takes=plain(table.T / 3), predictions=p.tolist())
    label = np.array([majority(g) for g in table.T])
    has = ~np.isnan(label)
    out["labels"] = plain(label[None])[0]
    out["network"] = levels(made[has], label[has]) | dict(krippendorff=alpha(np.vstack([table, made])))
    graders, network = [], []
    for e, own in enumerate(experts):
        # Rounded, so that means that are the same tie.
        others, own_mean = np.nanmean(np.delete(means, e, 0), 0).round(6), means[e].round(6)
        both = ~np.isnan(others) & ~np.isnan(means[e])
        label = np.array([majority(g) for g in np.delete(table, own, 0).T])
        each = []
        for k in own:
            has = ~np.isnan(label) & ~np.isnan(table[k])
            each.append(levels(table[k][has], label[has]))
        graders.append(ratings(own_mean[both], others[both]) | mean(each))
        has = ~np.isnan(label) & ~np.isnan(means[e])
        network.append(ratings(p[both], others[both]) | levels(made[has], label[has]))
        if pass_:
            graded = ~np.isnan(means[e])
            graders[-1]["auc"] = m.roc_auc_score((truth > 1)[graded], means[e][graded])
    out["graders"] = mean(graders) | dict(krippendorff=alpha(table))
    out["as_grader"], out["pass"] = mean(network), (truth > 1).tolist() if pass_ else None
    return out


def isotonic(n, digits):
    """Few digits make equal predictions."""
    x = r.random(n).round(digits)
    y = (np.clip(x + r.normal(0, .3, n), 0, 1) * 3).round() / 3
    at = np.concatenate([[0, 1], x[:5], r.random(20)]).astype(np.float32)
    fitted = IsotonicRegression(out_of_bounds="clip").fit(x.astype(np.float32).astype(float), y)
    return dict(x=x.tolist(), y=y.tolist(), at=at.tolist(), to=fitted.predict(at.astype(float)).tolist())


with np.errstate(invalid="ignore"):
    import warnings
    warnings.simplefilter("ignore")  # means of nothing, levels that nobody predicts
    pairs = []
    for n, k in ((1, 1), (6, 2), (50, 4), (200, 4), (80, 11)):
        y = r.integers(0, k, n)
        p = np.clip(y + r.integers(-2, 3, n), 0, k - 1)
        p[y == k - 1] = 0  # a level that is never found
        pairs.append(dict(p=p.tolist(), y=y.tolist(), **levels(p, y)))
    # Krippendorff's own example (2011), and random ones with cells missing.
    nan = np.nan
    own = np.array([[1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
                    [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan]])
    tables = [own]
    for graders, n, missing in ((2, 9, 0), (3, 40, .2), (5, 60, .5)):
        t = np.clip(r.integers(0, 4, n) + r.integers(-1, 2, (graders, n)), 0, 3).astype(float)
        t[r.random(t.shape) < missing] = nan
        tables.append(t)
    alphas = [dict(takes=plain(t.T), alpha=alpha(t)) for t in tables]
    out = dict(pairs=pairs, alphas=alphas, several=[several(60, 0, True), several(90, .2, False)],
        isotonic=[isotonic(1, 2), isotonic(30, 1), isotonic(200, 4)])
    pathlib.Path(__file__).with_name("grades.json").write_text(json.dumps(out) + "\n")
