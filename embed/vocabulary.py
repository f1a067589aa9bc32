"""What was fitted to a collection's own pictures, as a file: the vocabulary of VLAD, and a projection that whitens.

It lies in the state folder under the digest that the space of the vectors names::

    <state>/vocabularies/<digest>.npz       facts (JSON), and the arrays of `Vocabulary`

`outcrop.embed.fitting` makes one, `outcrop.embed.aggregation` applies it. torch is not imported.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError, WeightsError
from outcrop.schema.files import whole_file
from outcrop.schema.space import AskedPooling, Space

SUFFIX = ".npz"
FORMAT = 1

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Words:
    """The vocabulary of VLAD: `words` [K, d] are the means of clusters of reduced tokens. A token [D] of length 1 is reduced by
    ``axes @ (token - mean)``, with `mean` [D] and `axes` [d, D]."""

    mean: Array
    axes: Array
    words: Array


@dataclass(frozen=True)
class Vocabulary:
    """What was fitted to pictures: a vector [M] of length 1 becomes ``projection @ (vector - mean)``, [dim].

    `base` is the space of the result but for the digest of this very vocabulary. `words` is None where the vectors are pooled
    without a vocabulary and only whitened. `samples` is how many pictures, views and crops it was fitted to.
    """

    base: Space
    mean: Array
    projection: Array
    words: Words | None = None
    samples: int = 0

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays by the names under which they are kept."""
        found = {"mean": self.mean, "projection": self.projection}
        if self.words is not None:
            found |= {"token_mean": self.words.mean, "token_axes": self.words.axes, "words": self.words.words}
        return found

    @property
    def digest(self) -> str:
        """32 hex characters over all that decides what the vectors are."""
        parts = [f"vocabulary {FORMAT} {self.base.fingerprint}".encode()]
        for name, array in self.arrays.items():
            parts += [f"{name} {array.shape}".encode(), np.ascontiguousarray(array, "<f4").tobytes()]
        return digest_of(b"\0".join(parts))

    @property
    def space(self) -> Space:
        """The space of the vectors that it makes."""
        return self.base.model_copy(update={"vocabulary": self.digest})

    def __str__(self) -> str:
        words = "" if self.words is None else f"{len(self.words.words)} words of {self.words.words.shape[1]} numbers, "
        return f"{self.space.pooled_by} ({words}{self.base.dim}-d, fitted to {self.samples} samples, {self.base.model})"


def save(vocabulary: Vocabulary, folder: Path) -> Path:
    """Writes a vocabulary into a folder under its digest, and returns the file.

    Raises:
        InputError: the file cannot be written.
    """
    path = folder / f"{vocabulary.digest}{SUFFIX}"
    facts = {"format": FORMAT, "base": vocabulary.base.model_dump(mode="json"), "samples": vocabulary.samples}
    with whole_file(path, parents=True) as temporary, temporary.open("wb") as file:
        np.savez(file, facts=np.array(json.dumps(facts)), **vocabulary.arrays)  # type: ignore[arg-type]
    return path


def load(path: Path) -> Vocabulary:
    """Reads the file of a vocabulary; nothing in it is run.

    Raises:
        WeightsError: it is missing, damaged, or not the one that its name says.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            facts: Any = json.loads(str(file["facts"][()]))
            arrays = {name: np.asarray(file[name], dtype=np.float32) for name in file.files if name != "facts"}
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}")
        base, samples = Space.model_validate(facts["base"]), int(facts["samples"])
        words = None
        if "words" in arrays:
            words = Words(arrays["token_mean"], arrays["token_axes"], arrays["words"])
        found = Vocabulary(base, arrays["mean"], arrays["projection"], words, samples)
    except FileNotFoundError:
        raise WeightsError(f"no vocabulary at {path}; fit one with `ingest vocabulary`") from None
    except (OSError, EOFError, zipfile.BadZipFile, ValidationError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path} is not a readable vocabulary ({reason}); {_copy_again(path)}") from None
    if path.stem != found.digest:
        raise WeightsError(f"{path} is damaged: its digest is {found.digest}; {_copy_again(path)}")
    return found


def _copy_again(path: Path) -> str:
    return f"copy {path.name} there again from where it was fitted, or from beside an export"


def for_space(space: Space, folder: Path) -> Path:
    """The file of the vocabulary that the vectors of a space were made with.

    Raises:
        WeightsError: it is not in the folder; the message says where it may come from.
    """
    path = folder / f"{space.vocabulary}{SUFFIX}"
    if not path.is_file():
        raise WeightsError(
            f"the vectors are pooled by {space.pooled_by}, and its vocabulary is not in {folder}; copy {path.name} there "
            "(from the state folder in which it was fitted, or from beside an export), or give the --state that holds it"
        )
    return path


def for_asked(asked: AskedPooling, base: Space, folder: Path) -> Path:
    """The file of the vocabulary that a pooling names, for the model, weights, size and fit of a space: the one that there is.

    Raises:
        InputError: there is none, or there are several; they are named.
    """
    named = {path: load(path).base for path in sorted(folder.glob(f"{asked.vocabulary}*{SUFFIX}"))}
    pooled = {path: own for path, own in named.items() if own.pooling == asked.name}
    fitting = [path for path, own in pooled.items() if _same_pictures(own, base)]
    if len(fitting) == 1:
        return fitting[0]
    what = f"--pooling {asked.name}{':' if asked.vocabulary else ''}{asked.vocabulary}"
    of = f"{base.model} at {base.size[0]}x{base.size[1]} ({base.fit})"
    if fitting:
        names = ", ".join(f"{asked.name}:{path.stem[:8]}" for path in fitting)
        raise InputError(f"{what}: {folder} holds {len(fitting)} vocabularies for {of}; say which: {names}")
    others = {own.fit for own in pooled.values() if _same_pictures(own.model_copy(update={"fit": base.fit}), base)}
    instead = "".join(f"; with --fit {fit} there is one" for fit in sorted(others))
    fix = instead or f"; fit one first: ingest vocabulary PHOTOGRAPHS --pooling {asked.name}"
    raise InputError(f"{what}: {folder} holds no such vocabulary for {of}{fix}")


def _same_pictures(one: Space, other: Space) -> bool:
    """Whether two spaces differ in nothing but how vectors are made of what the network gives."""
    same = {"pooling": one.pooling, "dim": one.dim, "vocabulary": None}
    return one.model_copy(update=same) == other.model_copy(update=same)
