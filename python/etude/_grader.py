"""The estimator: a grader of performances, as scikit-learn's estimators are used."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Optional, Union

import numpy as np
import numpy.typing as npt

from . import _checks, _native

Path = Union[str, "os.PathLike[str]"]
Pitch = Union[Path, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Take:
    """A performance, with what there is to know of it before it is graded.

    Args:
        contour: its pitch: the path of a recording (WAV, AIFF, FLAC, MP3, Ogg Vorbis, AAC and ALAC in M4A) or
            of a pitch track (as CREPE, pYIN, librosa, Tony and Praat write them), or an array `[frames]` of f0
            in Hz, 0 or NaN where unvoiced, `Grader.f0_hop` seconds apart.
        references: the melody as it should be, one or several: paths of scores (MIDI, MusicXML), or what
            `contour` takes.
        performer: who performs; takes to validate on are never of one who is trained on. None is somebody else
            each time.
        melody: takes of one melody share their references. None tells melodies apart by their references.
    """

    contour: Pitch
    references: Union[Pitch, Sequence[Pitch]] = ()
    performer: Optional[str] = None
    melody: Optional[str] = None


Takes = Union[Path, Iterable[Union[Take, Pitch]]]


class Grader:
    """Grades performances as judges would, having learned from graded ones; an estimator in scikit-learn's
    manner, which needs nothing of scikit-learn's.

    `X` is a list of takes: each a `Take`, or what `Take.contour` takes where there is nothing else to say. Or it
    is a path: to fit, of a data set as `etude train --data` reads them (a manifest with ratings, MASTmelody,
    FBA), without `y`; to predict, of a manifest. Its grader is the one that `etude train --test-fraction 0`
    trains, bit for bit, and its file the same.

    Once there is a model, `model_` are the bytes of its file, which `save` writes, `info_` is what the file says
    of itself (`input`, `criterion`, `protocol`, `epochs`, `trained_on`, ...), and `notes_` what the last `fit`
    read and dropped.

    Args:
        input: what the network sees: `"contour"`, `"contour-reference"`, `"alignment-path"`, `"notes"` or
            `"alignment-path+notes"`. None: the last where takes have references, else the first.
        criteria: names of the ratings to learn, one or several; none is the first of a data set. With `y` of
            several columns their names.
        protocol: `"mse"`, `"joint"` (squared error and contrastive loss) or `"two-phase"`; None chooses by the
            input.
        epochs: at most so many in each phase. None: 50 for alignments and notes, more for few takes; 300 for
            contours alone.
        degraded: reference takes with planted errors to learn from beside each take; 1 helps where takes are
            few.
        max_references: a take is compared with at most so many references, the most typical ones.
        val_fraction: the share of performers whose takes tell when to stop. None: 0.1 for contours alone, else
            0.
        seed: of the initial weights, the order of takes and that share.
        f0_hop: seconds from one number of an array to the next, and from row to row of pitch tracks without
            times.
        voice: whose pitch is looked for in recordings: `"any"` (60 to 2000 Hz), `"alto"`, `"violin"`, ...
        keep: a directory in which the pitch of recordings is kept, so that each is listened to once. None keeps
            nothing.
        device: `"cpu"`, on `etude.get_num_threads()` threads, or `"cuda"`.
        verbose: whether to tell of epochs on standard error.
    """

    _estimator_type = "regressor"

    def __init__(
        self,
        *,
        input: str | None = None,
        criteria: str | Sequence[str] = (),
        protocol: Literal["mse", "joint", "two-phase"] | None = None,
        epochs: int | None = None,
        degraded: float = 0.0,
        max_references: int = 24,
        val_fraction: float | None = None,
        seed: int = 0,
        f0_hop: float | None = None,
        voice: str = "any",
        keep: Path | None = None,
        device: Literal["cpu", "cuda"] = "cpu",
        verbose: bool = False,
    ) -> None:
        self.input = input
        self.criteria = criteria
        self.protocol = protocol
        self.epochs = epochs
        self.degraded = degraded
        self.max_references = max_references
        self.val_fraction = val_fraction
        self.seed = seed
        self.f0_hop = f0_hop
        self.voice = voice
        self.keep = keep
        self.device = device
        self.verbose = verbose

    @classmethod
    def load(cls, path: Path | None = None, **parameters: Any) -> Grader:
        """The grader in a model file that `save` or `etude train --out` wrote. None: the one that comes with
        Etude, whose grade is the share of notes that are performed without an error; it has learned from
        synthetic takes.

        Raises `ValueError` for a file that is damaged, or no model.
        """
        grader = cls(**parameters)
        if path is None:
            return grader._with(_native.grader_built_in(), "planted.safetensors, built in")
        with open(path, "rb") as file:
            return grader._with(file.read(), os.fspath(path))

    def save(self, path: Path) -> None:
        """Writes the model to a file, whole or not at all: for `load`, `etude score --model` and `etude eval
        --model`."""
        self._fitted("save")
        _native.grader_save(os.fspath(path), self.model_)

    def fit(self, X: Takes, y: npt.ArrayLike | None = None) -> Grader:
        """Learns from graded takes, and warns of those that it drops: without a rating, or without a reference where
        others have one.

        Args:
            X: see `Grader`.
            y: ratings from 0 to 1, `[N]`, or `[N, K]` by each of K criteria; NaN where a take was not rated.

        Returns:
            Itself.
        """
        training = {
            "input": _text("Grader.fit", "input", self.input, optional=True),
            "criteria": _names(self.criteria),
            "protocol": _text("Grader.fit", "protocol", self.protocol, optional=True),
            "epochs": None if self.epochs is None else _checks.whole("Grader.fit", "epochs", self.epochs),
            "degraded": _checks.real("Grader.fit", "degraded", self.degraded),
            "max_references": _checks.whole("Grader.fit", "max_references", self.max_references),
            "val_fraction": None
            if self.val_fraction is None
            else _checks.real("Grader.fit", "val_fraction", self.val_fraction),
            "seed": _checks.whole("Grader.fit", "seed", self.seed),
        }
        if _is_path(X):
            if y is not None:
                raise ValueError("Grader.fit: y: a data set has its own ratings: leave y out")
            graded = os.fspath(X)
        else:
            takes = self._given("fit", X)
            ratings, criteria = self._ratings(y, len(takes[0]))
            graded = takes, ratings, criteria
        report = _tell if self.verbose else None
        model, read, dropped = _native.grader_fit(graded, training, self._means(), report)
        self.notes_ = read + dropped
        for note in dropped:
            warnings.warn(f"Grader.fit: {note}", stacklevel=2)
        if self.verbose:
            for note in read:
                print(f"note: {note}", file=sys.stderr)
        return self._with(model, "the model")

    def predict(self, X: Takes) -> npt.NDArray[np.float32]:
        """The grades of takes, from 0 to 1: float32 `[N]`, or `[N, K]` by each of K criteria, in the order of `X`.

        Raises `ValueError` for the first take that cannot be graded; what is wrong with a file is told with its name.
        """
        grades = np.asarray([grades for grades, _ in self._predicted("predict", X)], np.float32)
        several = self.info_.get("criteria") or [None]
        return grades.reshape(-1, len(several)) if len(several) > 1 else grades.reshape(-1)

    def transform(self, X: Takes) -> npt.NDArray[np.float32]:
        """The embeddings of takes, which the contrastive loss has shaped: float32 `[N, D]`."""
        embeddings = [embedding for _, embedding in self._predicted("transform", X)]
        return np.asarray(embeddings, np.float32).reshape(len(embeddings), -1)

    def score(self, X: Takes, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> float:
        """R² of the grades; of several criteria the mean of theirs."""
        made = self.predict(X).astype(np.float64)
        y = np.asarray(y, np.float64)
        if y.shape != made.shape:
            raise ValueError(f"Grader.score: y: must be {list(made.shape)}, is {list(y.shape)}")
        weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        off = np.average((y - made) ** 2, axis=0, weights=weights)
        spread = np.average((y - np.average(y, axis=0, weights=weights)) ** 2, axis=0, weights=weights)
        # As scikit-learn's r2_score where nothing varies.
        flat = np.where(off == 0, 1.0, 0.0)
        return float(np.mean(np.where(spread > 0, 1 - off / np.where(spread > 0, spread, 1), flat)))

    @property
    def info_(self) -> dict[str, Any]:
        self._fitted("info_")
        info = json.loads(_native.grader_info(self._name, self.model_))
        del info["takes"]
        return info

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments it was made with, by name."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **parameters: Any) -> Grader:
        """Sets arguments, by name, for the next `fit`."""
        for name, value in parameters.items():
            if name not in _PARAMETERS:
                raise ValueError(f"Grader.set_params: {name}: there are {', '.join(_PARAMETERS)}")
            setattr(self, name, value)
        return self

    def __repr__(self):
        usual = {name: parameter.default for name, parameter in _PARAMETERS.items()}
        own = (f"{k}={v!r}" for k, v in self.get_params().items() if v is not usual[k] and v != usual[k])
        return f"Grader({', '.join(own)})"

    def __sklearn_is_fitted__(self):
        return hasattr(self, "model_")

    def __sklearn_tags__(self):  # called by scikit-learn alone
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type="regressor",
            target_tags=TargetTags(required=False, multi_output=True),
            regressor_tags=RegressorTags(),
            input_tags=InputTags(two_d_array=False),
        )

    def _with(self, model, name):
        _native.grader_info(name, model)  # or says what is wrong with it
        self.model_, self._name = model, name
        return self

    def _fitted(self, method):
        if not hasattr(self, "model_"):
            raise ValueError(f"Grader.{method}: there is no model yet: call fit, or Grader.load")

    def _means(self):
        from . import get_num_threads

        return {
            "f0_hop": None if self.f0_hop is None else _checks.real("Grader", "f0_hop", self.f0_hop),
            "voice": _text("Grader", "voice", self.voice),
            "keep": None if self.keep is None else os.fspath(self.keep),
            "device": _text("Grader", "device", self.device),
            "threads": get_num_threads(),
        }

    def _predicted(self, method, X):
        self._fitted(method)
        ungraded = os.fspath(X) if _is_path(X) else self._given(method, X)
        return _native.grader_predict(self._name, self.model_, ungraded, self._means())

    def _given(self, method, X):
        """Takes and melodies as native code takes them."""
        op = f"Grader.{method}"
        try:
            X = list(X)
        except TypeError:
            raise TypeError(f"{op}: X: must be a path or a list of takes, is {type(X).__name__}") from None
        takes, melodies, seen = [], {}, {}
        for i, take in enumerate(X):
            take = take if isinstance(take, Take) else Take(take)
            key, name, source = _source(op, f"X[{i}]", take.contour, self.f0_hop)
            given = take.references
            given = [given] if _is_path(given) or isinstance(given, np.ndarray) else given
            references = {}
            for k, reference in enumerate(given):
                own, *named = _source(op, f"X[{i}].references[{k}]", reference, self.f0_hop)
                references.setdefault(own, tuple(named))
            melody = take.melody
            if melody is None and references:
                melody = ";".join(sorted(references))
            if melody is not None:
                melodies[melody] = references | melodies.get(melody, {})
            # One take may be there several times, as resampling has it.
            seen[key] = seen.get(key, 0) + 1
            name = name if seen[key] == 1 or isinstance(source, bytes) else f"{name} ({seen[key]})"
            takes.append((name, source, key if take.performer is None else take.performer, melody))
        if not takes:
            raise ValueError(f"{op}: X: holds no takes")
        known = [(melody, list(references.values())) for melody, references in melodies.items() if references]
        places = {melody: place for place, (melody, _) in enumerate(known)}
        return [(*take, places.get(melody)) for *take, melody in takes], known

    def _ratings(self, y, takes):
        """The ratings of each take, and what they are for."""
        if y is None:
            raise ValueError("Grader.fit: y: takes in a list have no ratings of their own: give one for each")
        try:
            y = np.asarray(y, np.float64)
        except (TypeError, ValueError):
            raise TypeError("Grader.fit: y: must hold numbers, NaN where a take was not rated") from None
        if y.ndim not in (1, 2) or len(y) != takes:
            raise ValueError(f"Grader.fit: y: must be [{takes}] or [{takes}, criteria], is {list(y.shape)}")
        outside = y[~np.isnan(y) & ~((y >= 0) & (y <= 1))]
        if outside.size:
            raise ValueError(
                f"Grader.fit: y: ratings are from 0 to 1, one is {outside[0]:g}: (y - lowest) / (highest - lowest) "
                "brings them there"
            )
        y = y.reshape(takes, -1)
        names = _names(self.criteria)
        if not names:
            names = ["overall"] if y.shape[1] == 1 else [f"criterion {i + 1}" for i in range(y.shape[1])]
        if len(names) != y.shape[1]:
            raise ValueError(f"Grader.fit: criteria: {len(names)} names for {y.shape[1]} columns of y")
        return [[None if np.isnan(v) else float(v) for v in row] for row in y], names


_PARAMETERS: dict[str, Any] = {
    name: parameter for name, parameter in inspect.signature(Grader).parameters.items()
}


def _tell(epoch, of, loss):
    if epoch % max(1, of // 10) == 0:
        print(f"epoch {epoch} of {of} at most: loss {loss:.4f}", file=sys.stderr)


def _is_path(value):
    return isinstance(value, (str, os.PathLike))


def _names(criteria):
    return [criteria] if isinstance(criteria, str) else list(criteria)


def _text(op, name, value, optional=False):
    if not isinstance(value, str) and not (optional and value is None):
        raise TypeError(f"{op}: {name}: must be a string, is {type(value).__name__}")
    return value


def _source(op, argument, value, f0_hop):
    """A key that is the same for the same pitch, a name for it, and what native code reads."""
    if _is_path(value):
        path = os.fspath(value)
        return path, path, path
    try:
        f0 = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{op}: {argument}: must be a path or f0 in Hz, is {type(value).__name__}") from None
    if f0.ndim != 1:
        raise ValueError(f"{op}: {argument}: f0 must be [frames], is {list(f0.shape)}")
    if f0_hop is None:
        raise ValueError(
            f"{op}: {argument}: say how many seconds apart its numbers are, as in Grader(f0_hop=0.01)"
        )
    numbers = np.where(np.isnan(f0), 0.0, f0).tobytes()
    return hashlib.sha256(numbers).hexdigest(), argument, numbers
