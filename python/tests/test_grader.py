"""The estimator, beside the command line and in scikit-learn."""

import copy
import importlib.util
import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time
import wave

import numpy as np
import pytest

import etude

ROOT = pathlib.Path(__file__).parents[2]
HOP = 0.01
MELODIES = {"rise": [60, 62, 64, 65, 67, 65, 64, 62, 60], "fall": [67, 64, 60, 64, 67, 72, 71, 69, 67]}


def sung(notes, off=0.0, tempo=1.0):
    """f0 of notes of 0.3 s with gaps between them, so many semitones off."""
    frames = int(30 / tempo)
    f0 = [[440 * 2 ** ((pitch - 69) / 12)] * frames + [0.0] * 3 for pitch in np.asarray(notes) + off]
    return np.concatenate(f0)


def performances(number, seed=0):
    """Melody, f0, performer and rating: the share of notes that are right."""
    rng = np.random.default_rng(seed)
    for i in range(number):
        melody = list(MELODIES)[i % 2]
        wrong = rng.random(9) < 0.8 * rng.random()
        off = wrong * rng.choice([-1, 1], 9) + rng.normal(0, 0.1, 9)
        yield melody, sung(MELODIES[melody], off, rng.uniform(0.8, 1.2)), f"singer {i % 10}", 1 - wrong.mean()


def takes_of(number, seed=0):
    takes, ratings = [], []
    for melody, f0, performer, rating in performances(number, seed):
        takes.append(etude.Take(f0, references=sung(MELODIES[melody]), performer=performer))
        ratings.append(rating)
    return takes, np.array(ratings)


def written(path, f0):
    rows = (f"{i * HOP:.2f},{hz:.4f}\n" for i, hz in enumerate(f0))
    path.write_text("time,f0\n" + "".join(rows))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Graded takes as files, with two criteria."""
    path = tmp_path_factory.mktemp("graded")
    for melody, notes in MELODIES.items():
        written(path / f"{melody}.csv", sung(notes))
    lines = ["path,performer,melody,reference,rating_pitch,rating_rhythm"]
    for i, (melody, f0, performer, rating) in enumerate(performances(30)):
        written(path / f"take-{i:02}.csv", f0)
        rhythm = "" if i % 3 == 0 else (i % 7) / 7
        lines.append(f"take-{i:02}.csv,{performer},{melody},{melody}.csv,{rating},{rhythm}")
    (path / "manifest.csv").write_text("\n".join(lines) + "\n")
    return path / "manifest.csv"


@pytest.fixture(scope="module")
def fitted():
    return etude.Grader(f0_hop=HOP).fit(*takes_of(40))


def test_it_learns_to_grade(fitted):
    takes, ratings = takes_of(30, seed=1)
    assert fitted.score(takes, ratings) > 0.85
    grades = fitted.predict(takes)
    assert grades.dtype == np.float32 and grades.shape == (30,)
    embeddings = fitted.transform(takes)
    assert embeddings.shape[0] == 30 and np.isfinite(embeddings).all()
    info = fitted.info_
    assert info["input"] == "alignment-path+notes" and info["trained_on"]["takes"] == 40
    assert info["trained_on"]["performers"] == 10


def test_the_same_takes_give_the_same_bytes(fitted):
    takes, ratings = takes_of(40)
    for threads in (1, 2):
        etude.set_num_threads(threads)
        try:
            assert etude.Grader(f0_hop=HOP).fit(takes, ratings).model_ == fitted.model_
        finally:
            etude.set_num_threads(0)
    assert etude.Grader(f0_hop=HOP, seed=1).fit(takes, ratings).model_ != fitted.model_


def test_files_and_arrays_are_graded_alike(fitted, manifest):
    """But for roundings of what is written."""
    of_files = fitted.predict(manifest)
    paths = [
        etude.Take(manifest.parent / f"take-{i:02}.csv", references=[manifest.parent / f"{melody}.csv"])
        for i, (melody, *_) in enumerate(performances(30))
    ]
    assert np.array_equal(fitted.predict(paths), of_files)
    assert np.array_equal(fitted.predict(manifest.parent), of_files)
    np.testing.assert_allclose(fitted.predict(takes_of(30)[0]), of_files, atol=0.02)


def test_models_survive(fitted, tmp_path):
    takes, _ = takes_of(5, seed=2)
    want = fitted.predict(takes)
    fitted.save(tmp_path / "model.safetensors")
    again = etude.Grader.load(tmp_path / "model.safetensors", f0_hop=HOP)
    for other in (again, pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert np.array_equal(other.predict(takes), want)
    assert again.info_ == fitted.info_


def test_the_model_that_comes_along():
    grader = etude.Grader.load(f0_hop=HOP)
    takes, ratings = takes_of(30, seed=3)
    assert np.corrcoef(grader.predict(takes), ratings)[0, 1] > 0.5
    right = etude.Take(sung(MELODIES["rise"], 2.0), references=sung(MELODIES["rise"]))
    assert grader.predict([right])[0] > 0.95, "in another key"


def test_a_contour_alone_and_the_same_take_twice():
    takes, ratings = takes_of(20)
    contours = [take.contour for take in takes]
    grader = etude.Grader(f0_hop=HOP, epochs=3).fit([*contours, contours[0]], [*ratings, ratings[0]])
    assert grader.info_["input"] == "contour"
    # 0.1 of the performers are validated on, everyone of whom is somebody else but the last.
    assert grader.info_["trained_on"] == {"data": "takes in memory", "takes": 21, "performers": 20}
    assert grader.predict(np.stack([contours[0][:200], contours[1][:200]])).shape == (2,)


def test_several_criteria_and_ratings_that_are_missing(manifest):
    takes, ratings = takes_of(30)
    both = np.stack([ratings, np.where(np.arange(30) % 3 == 0, np.nan, 0.5)], 1)
    grader = etude.Grader(f0_hop=HOP, epochs=5, criteria=("pitch", "rhythm")).fit(takes, both)
    assert grader.info_["protocol"] == "mse"
    assert [criterion["name"] for criterion in grader.info_["criteria"]] == ["pitch", "rhythm"]
    assert grader.predict(takes).shape == (30, 2)
    assert np.isfinite(grader.score(takes, np.nan_to_num(both)))
    with pytest.warns(UserWarning, match="fit: 10 takes dropped: not rated by overall"):
        dropped = etude.Grader(f0_hop=HOP, epochs=2).fit(takes, both[:, 1])
    assert dropped.info_["trained_on"]["takes"] == 20
    assert any("10 takes dropped: not rated" in note for note in dropped.notes_)
    with pytest.warns(UserWarning, match="10 takes dropped: not rated by rhythm"):
        of_files = etude.Grader(epochs=2, criteria="rhythm").fit(manifest)
    assert of_files.info_["criterion"] == "rhythm"


def command():
    """The command line's program, where it has been built."""
    beside = (ROOT / "target" / profile / "etude" for profile in ("release", "debug"))
    found = [os.environ.get("ETUDE"), *(str(path) for path in beside if path.exists())]
    return next(filter(None, found), None)


@pytest.mark.skipif(command() is None, reason="needs the etude program: cargo build")
@pytest.mark.parametrize(
    "options",
    [
        {"criteria": "pitch"},
        {"criteria": ("pitch", "rhythm"), "seed": 3},
        {"criteria": "pitch", "input": "contour", "epochs": 4, "val_fraction": 0.2},
        {"criteria": "pitch", "degraded": 1.0, "epochs": 6, "protocol": "two-phase", "max_references": 1},
    ],
    ids=str,
)
def test_it_is_the_command_line_s_grader(options, manifest, tmp_path):
    grader = etude.Grader(**options).fit(manifest)
    named = dict(options)
    arguments = [["--criterion", one] for one in np.atleast_1d(named.pop("criteria"))]
    named["references"] = named.pop("max_references", 24)
    arguments += [[f"--{name.replace('_', '-')}", str(value)] for name, value in named.items()]
    run = [command(), "train", "--data", str(manifest), "--test-fraction", "0", "--device", "cpu"]
    run += [*sum(arguments, []), "--out", str(tmp_path / "run")]
    subprocess.run(run, check=True, capture_output=True)
    model = tmp_path / "run" / "model.safetensors"
    assert model.read_bytes() == grader.model_
    score = [command(), "score", "--device", "cpu", "--json", "--model", str(model), str(manifest)]
    lines = subprocess.run(score, check=True, capture_output=True, text=True).stdout.splitlines()
    grades = grader.predict(manifest).reshape(30, -1).mean(1)
    np.testing.assert_allclose(grades, [json.loads(line)["grade"] for line in lines], rtol=1e-6)


def test_in_scikit_learn():
    pytest.importorskip("sklearn")
    from sklearn.base import clone, is_regressor
    from sklearn.exceptions import NotFittedError
    from sklearn.metrics import r2_score
    from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
    from sklearn.utils.validation import check_is_fitted

    takes, ratings = takes_of(30)
    grader = etude.Grader(f0_hop=HOP)
    assert is_regressor(grader) and clone(grader).get_params() == grader.get_params()
    with pytest.raises(NotFittedError):
        check_is_fitted(grader)
    folds = {"cv": GroupKFold(3), "groups": [take.performer for take in takes]}
    scores = cross_val_score(grader, takes, ratings, **folds)
    made = cross_val_predict(grader, takes, ratings, **folds)
    assert scores.shape == (3,) and scores.min() > 0.2 and np.corrcoef(made, ratings)[0, 1] > 0.5
    search = GridSearchCV(grader, {"protocol": ["mse", "joint"]}, cv=2, n_jobs=2).fit(takes, ratings)
    assert search.best_params_["protocol"] in ("mse", "joint")
    check_is_fitted(search.best_estimator_)
    best, weights = search.best_estimator_, np.arange(30) + 1.0
    made = best.predict(takes).astype(float)
    assert best.score(takes, ratings, weights) == pytest.approx(
        r2_score(ratings, made, sample_weight=weights)
    )
    assert best.score(takes, np.full(30, 0.5)) == pytest.approx(r2_score(np.full(30, 0.5), made))


def test_parameters():
    grader = etude.Grader(protocol="mse", epochs=3)
    assert repr(grader) == "Grader(protocol='mse', epochs=3)" and repr(etude.Grader()) == "Grader()"
    assert grader.set_params(seed=4) is grader and grader.get_params()["seed"] == 4
    with pytest.raises(ValueError, match="set_params: margin: there are input"):
        grader.set_params(margin=1)


TAKE = sung([60, 62, 64])


@pytest.mark.parametrize(
    ("options", "X", "y", "message"),
    [
        (
            {},
            [TAKE],
            [0.5],
            r"X\[0\]: say how many seconds apart its numbers are, as in Grader\(f0_hop=0.01\)",
        ),
        ({"f0_hop": HOP}, [TAKE], ["good"], "y: must hold numbers"),
        ({"f0_hop": HOP}, 3, [0.5], "X: must be a path or a list of takes, is int"),
        ({"f0_hop": HOP, "input": 3}, [TAKE], [0.5], "input: must be a string, is int"),
        ({"f0_hop": HOP, "protocol": 3}, [TAKE], [0.5], "protocol: must be a string, is int"),
        ({"f0_hop": HOP, "voice": None}, [TAKE], [0.5], "voice: must be a string, is NoneType"),
        ({"f0_hop": HOP, "val_fraction": "a"}, [TAKE], [0.5], "val_fraction"),
        ({"f0_hop": 0.0}, [TAKE], [0.5], "hop"),
        ({"f0_hop": HOP}, [TAKE, TAKE], [0.5], r"y: must be \[2\]"),
        ({"f0_hop": HOP}, [TAKE], None, "y: takes in a list have no ratings"),
        ({"f0_hop": HOP}, [TAKE], [3.5], "ratings are from 0 to 1, one is 3.5"),
        ({"f0_hop": HOP}, [], [], "X: holds no takes"),
        ({"f0_hop": HOP}, [TAKE], [0.5], "only 1 performer; validation fraction 0 trains without"),
        ({"f0_hop": HOP}, [TAKE[None]], [0.5], r"X\[0\]: f0 must be \[frames\], is \[1, 99\]"),
        ({"f0_hop": HOP}, [0 * TAKE, TAKE], [0.5, 1], r"X\[0\]: .*no voiced"),
        ({"f0_hop": HOP}, [TAKE, TAKE - 1000], [0.5, 1], r"X\[1\]: "),
        (
            {"f0_hop": HOP, "input": "notes"},
            [TAKE, TAKE],
            [0.5, 1],
            "input notes: none of 2 takes has a reference",
        ),
        ({"f0_hop": HOP, "input": "note"}, [TAKE, TAKE], [0.5, 1], "input .*note.*: expected contour"),
        ({"f0_hop": HOP, "protocol": "sgd"}, [TAKE, TAKE], [0.5, 1], "protocol .*sgd.*: expected"),
        ({"f0_hop": HOP, "voice": "kazoo"}, [TAKE, TAKE], [0.5, 1], "kazoo"),
        (
            {"f0_hop": HOP, "device": "tpu"},
            [TAKE, TAKE, TAKE],
            [0.5, 1, 0.5],
            "device 'tpu': expected cpu or cuda",
        ),
        ({"f0_hop": HOP, "epochs": 0}, [TAKE, TAKE, TAKE], [0.5, 1, 0.5], "epochs"),
        ({"f0_hop": HOP, "epochs": 1.5}, [TAKE], [0.5], "epochs"),
        ({"f0_hop": HOP, "seed": -1}, [TAKE], [0.5], "seed"),
        ({"f0_hop": HOP, "degraded": -1.0}, [TAKE, TAKE], [0.5, 1], "degraded"),
        ({"f0_hop": HOP, "val_fraction": 2.0}, [TAKE, TAKE], [0.5, 1], "fraction"),
        ({"criteria": ("a", "b"), "f0_hop": HOP}, [TAKE], [0.5], "criteria: 2 names for 1 columns"),
    ],
)
def test_bad_input_says_what_to_do(options, X, y, message):
    with pytest.raises((ValueError, TypeError), match=message):
        etude.Grader(**options).fit(X, y)


def test_what_cannot_be_graded_is_named(fitted, tmp_path):
    with pytest.raises(ValueError, match=r"X\[1\]: the model compares a take with references"):
        fitted.predict([etude.Take(TAKE, references=TAKE), TAKE])
    of_nothing = etude.Take(TAKE, references=[TAKE, np.full(9, np.inf)])
    with pytest.raises(ValueError, match=r"X\[0\].references\[1\]: contour: f0: row 0: f0 inf"):
        fitted.predict([of_nothing])
    with pytest.raises(FileNotFoundError, match="nowhere.wav"):
        fitted.predict([etude.Take(tmp_path / "nowhere.wav", references=TAKE)])
    with pytest.raises(FileNotFoundError, match="nowhere.csv"):
        fitted.predict(tmp_path / "nowhere.csv")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        etude.Grader().fit(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="must be a path or f0 in Hz, is dict"):
        fitted.predict([{}])
    with pytest.raises(ValueError, match="predict: there is no model yet"):
        etude.Grader().predict([TAKE])
    with pytest.raises(ValueError, match="y: a data set has its own ratings"):
        etude.Grader().fit(tmp_path, [0.5])
    with pytest.raises(ValueError, match=r"score: y: must be \[1\], is \[2\]"):
        fitted.score([etude.Take(TAKE, references=TAKE)], [1, 1])
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(fitted.model_[:-4] + b"abcd")
    with pytest.raises(ValueError, match="damaged.safetensors: is damaged"):
        etude.Grader.load(damaged)


def test_what_is_kept_of_recordings_gives_the_same_bits(tmp_path):
    """Of one that is voiced throughout, too, whose f0 alone does not say what is voiced."""
    take, rate = tmp_path / "take.wav", 44_100
    sound = np.concatenate([np.sin(2 * np.pi * hz * np.arange(rate) / rate) for hz in (440, 494)])
    with wave.open(str(take), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((16_000 * sound).astype("<i2").tobytes())
    reference = np.repeat([440.0, 494.0], 100)
    grader = etude.Grader.load(f0_hop=HOP, keep=tmp_path / "kept", voice="soprano")
    first = grader.predict([etude.Take(take, references=reference)])
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert np.array_equal(grader.predict([etude.Take(take, references=reference)]), first)
    grader.set_params(keep=None)
    assert np.array_equal(grader.predict([etude.Take(take, references=reference)]), first)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_grades_too(child):
    code = (
        "import multiprocessing, numpy as np, etude\n"
        "grader = etude.Grader.load(f0_hop=0.01)\n"
        "take = etude.Take(np.repeat([440.0, 494.0], 100), references=np.repeat([440.0, 494.0], 100))\n"
        "def grade(i): return grader.predict([take] * 3).tolist()\n"
        "want = grade(0)\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    assert pool.map(grade, range(4)) == [want] * 4"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, env=child).returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_control_c_ends_a_fit(child):
    code = (
        "import numpy as np, etude, sys\n"
        "takes = [np.repeat(f, 300) for f in np.linspace(200, 400, 64)]\n"
        "print('ready', flush=True)\n"
        "etude.Grader(f0_hop=0.01, epochs=100_000, val_fraction=0.0).fit(takes, np.linspace(0, 1, 64))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors and "panicked" not in errors


def test_scikit_learn_and_pytorch_are_not_imported(child):
    code = (
        "import sys, etude; etude.Grader.load().get_params()\n"
        "sys.exit('sklearn' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=child).returncode == 0
    assert importlib.util.find_spec("etude._grader") is not None
