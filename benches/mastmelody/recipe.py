#!/usr/bin/env python3
"""MASTmelody's takes graded, from f0 files on, in NumPy and PyTorch alone: `etude train`'s peer.

    python recipe.py --data MASTmelody_dataset [--folds 5] [--seed 1] [--split-by performer|melody]
                     [--weight 0.1] [--features OUT.csv] [--takes N]

Prints R2, Pearson's r and the AUC of the file names' pass and fail, per fold and in the mean, and the seconds
of each stage.
"""

import argparse
import csv
import multiprocessing
import random
import time
from pathlib import Path

import notes
import numpy as np
import paths
import takes
import warp

PROCESSES = 2


class Clock:
    """Seconds of each stage, as they end."""

    def __init__(self):
        self.start = self.last = time.perf_counter()

    def lap(self, stage):
        now = time.perf_counter()
        print(f"{stage:<34}{now - self.last:7.2f} s", flush=True)
        self.last = now


def listen(melody, sung):
    """Of a melody's takes: the 59 features of each, and the columns of the path to each reference."""
    pairs = [(take, reference) for take in sung for reference in melody.references]
    flat = warp.align([a for a, _ in pairs], [b for _, b in pairs], key_search=True)
    views = len(melody.references)
    found = [flat[k : k + views] for k in range(0, len(flat), views)]
    columns = [paths.columns(a, b, path) for (a, b), path in zip(pairs, flat)]
    return notes.features(sung, found, melody), columns


def read(data, count, pool, clock):
    """Names of the graded takes (`count` of them, spread over all, if not None), blocks and ratings by id.

    A reference needs no grade: those without one are kept.
    """
    rating = takes.ratings(Path(data, "annotations", "annotations.csv"))
    files = takes.files(data)
    known = {name["id"] for name, _ in files}
    sung = [name for name, _ in files if name["kind"] == "per" and name["id"] in rating]
    if count:
        sung = [sung[k] for k in np.linspace(0, len(sung) - 1, min(count, len(sung))).astype(int)]
    wanted, melodies = {name["id"] for name in sung}, {name["melody"] for name in sung}
    files = [f for f in files if f[0]["id"] in wanted or f[0]["kind"] == "ref" and f[0]["melody"] in melodies]
    blocks = pool.map(takes.read, [path for _, path in files], chunksize=64)
    blocks = {name["id"]: x for (name, _), x in zip(files, blocks)}
    clock.lap("read")
    print(f"  {len(sung)} takes, {len(blocks) - len(sung)} references, {len(melodies)} melodies;", end=" ")
    print(f"{len(rating.keys() - known)} graded ids have no f0 file")
    return sung, blocks, rating


def prepare(sung, blocks, pool, clock):
    """Features (take, 59), columns of all paths end to end, steps by (take, view), 0 where there is none."""
    references, by_melody = {}, {}
    for name in blocks:
        if "_ref" in name:
            references.setdefault(name.split("_ref")[0], []).append(name)
    for k, name in enumerate(sung):
        by_melody.setdefault(name["melody"], []).append(k)
    names = sorted(by_melody, key=lambda name: -len(references[name]))
    work = [(references[name], [blocks[one] for one in references[name]]) for name in names]
    melodies = pool.starmap(notes.melody, work, chunksize=1)
    clock.lap("rank references, find notes")

    names, melodies = zip(*sorted(zip(names, melodies), key=lambda found: -len(by_melody[found[0]])))
    work = [
        (melody, [blocks[sung[k]["id"]] for k in by_melody[name]]) for name, melody in zip(names, melodies)
    ]
    features = np.empty((len(sung), notes.FEATURES))
    columns = [[] for _ in sung]
    for name, melody, (some, found) in zip(names, melodies, pool.starmap(listen, work, chunksize=1)):
        views = len(melody.references)
        features[by_melody[name]] = some
        for at, k in enumerate(by_melody[name]):
            columns[k] = found[at * views : (at + 1) * views]
    steps = np.array([[len(x) for x in one] + [0] * (notes.BEST - len(one)) for one in columns])
    clock.lap("align takes, features")
    return features, np.concatenate([x for one in columns for x in one]), steps


def split(groups, folds, seed):
    """Fold of each take: groups shuffled, then the largest first into the smallest fold."""
    names = sorted(set(groups))
    random.Random(seed).shuffle(names)
    sizes, fold = [0] * folds, {}
    for name in sorted(names, key=lambda name: -groups.count(name)):
        fold[name] = sizes.index(min(sizes))
        sizes[fold[name]] += groups.count(name)
    return np.array([fold[group] for group in groups])


def auc(score, passed):
    """The share of (pass, fail) pairs in their order, a tie being half of one; nan without both."""
    if passed.all() or not passed.any():
        return float("nan")
    yes, no = score[passed][:, None], score[~passed]
    return (yes > no).mean() + 0.5 * (yes == no).mean()


def measures(predicted, rating, passed):
    r2 = 1 - ((rating - predicted) ** 2).sum() / ((rating - rating.mean()) ** 2).sum()
    return r2, np.corrcoef(predicted, rating)[0, 1], auc(predicted, passed)


def cross_validate(features, columns, steps, rating, fold, folds, seed, weight):
    """Prediction of each take by the model that did not see its group."""
    # Not at the top: the processes above were forked without it.
    import heads
    import torch

    torch.set_num_threads(1)  # a process a core; also keeps the fork below safe
    first = np.concatenate([[0], steps.ravel().cumsum()[:-1]]).reshape(steps.shape)
    tensors = [
        columns,
        first,
        steps,
        (steps > 0).sum(1),
        features.astype(np.float32),
        rating.astype(np.float32),
    ]
    data = heads.Takes(*map(torch.from_numpy, tensors))
    global one_fold

    def one_fold(k):
        test = torch.from_numpy(fold == k)
        return heads.train(
            data, torch.nonzero(~test)[:, 0], torch.nonzero(test)[:, 0], 1000 * seed + k, weight
        ).numpy()

    predicted = np.empty(len(rating), np.float32)
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        for k, some in enumerate(pool.map(one_fold, range(folds), chunksize=1)):
            predicted[fold == k] = some
    return predicted


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="the folder MASTmelody_dataset")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split-by", choices=("performer", "melody"), default="performer")
    parser.add_argument("--weight", type=float, default=0.1, help="of the contrastive loss; 0 leaves it out")
    parser.add_argument("--features", metavar="OUT.csv", help="write the 59 features of each take")
    parser.add_argument("--takes", type=int, metavar="N", help="N takes spread over the data, for a try")
    args = parser.parse_args()

    clock = Clock()
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        sung, blocks, rating = read(args.data, args.takes, pool, clock)
        features, columns, steps = prepare(sung, blocks, pool, clock)
    if args.features:
        with open(args.features, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", *(f"f{k + 1}" for k in range(notes.FEATURES))])
            writer.writerows([name["id"], *map(repr, row)] for name, row in zip(sung, features.tolist()))

    rating = np.array([rating[name["id"]] for name in sung])
    passed = np.array([name["grade"] == "pass" for name in sung])
    groups = [name["who"] if args.split_by == "performer" else name["melody"] for name in sung]
    fold = split(groups, args.folds, args.seed)
    predicted = cross_validate(features, columns, steps, rating, fold, args.folds, args.seed, args.weight)
    clock.lap("train and test")
    found = []
    for k in range(args.folds):
        test = fold == k
        found.append(measures(predicted[test], rating[test], passed[test]))
        print(
            f"fold {k}: {test.sum():4} takes  R2 {found[-1][0]:.3f}  r {found[-1][1]:.3f}  AUC {found[-1][2]:.3f}"
        )
    print("mean:              R2 {:.3f}  r {:.3f}  AUC {:.3f}".format(*np.mean(found, 0)))
    print(f"{'in all':<34}{time.perf_counter() - clock.start:7.2f} s")


if __name__ == "__main__":
    main()
