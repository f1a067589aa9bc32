"""An embedding space: everything that decides whether two vectors may be compared.

Two vectors are comparable only if the same weights, preprocessing and pooling made them. The fingerprint is a digest over
all of that; it names the physical collection and is checked before anything is written or searched.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError, nearest

Fit = Literal["squash", "crop", "pad"]
Pooling = Literal["avg", "token", "gem", "native", "vlad"]
POOLINGS = ("token", "avg", "gem", "vlad")
"""Those that may be asked for."""
_ASKED = re.compile(r"([a-z]+)(?::([0-9a-f]{1,32}))?")


@dataclass(frozen=True)
class AskedPooling:
    """A pooling as it is asked for: ``avg``, ``vlad``, ``vlad:1a2b3c4d`` or ``avg:5e6f7a8b``.

    `vocabulary` is how the digest of what was fitted to pictures begins ('' where none is named).
    """

    name: Pooling
    vocabulary: str = ""

    @classmethod
    def parse(cls, text: str) -> AskedPooling:
        """The pooling that a text names.

        Raises:
            InputError: there is none of that name, or what follows the colon is not the beginning of a digest.
        """
        found = _ASKED.fullmatch(text.strip())
        name = found[1] if found else text.partition(":")[0]
        if name not in (*POOLINGS, "native"):
            raise InputError(f"pooling {name!r}: choose token, avg, gem or vlad{nearest(name, POOLINGS)}")
        if found is None:
            raise InputError(
                f"pooling {text!r}: what follows the colon must be the first digits of a vocabulary, as in vlad:1a2b3c4d; "
                "`ingest vocabulary` prints them"
            )
        return cls(name, found[2] or "")  # type: ignore[arg-type]  # just checked

    @property
    def fitted(self) -> bool:
        """Whether something that was fitted to pictures belongs to it."""
        return self.name == "vlad" or bool(self.vocabulary)

    def means(self, space: Space) -> bool:
        """Whether the vectors of a space are pooled so; ``vlad`` alone means any vocabulary."""
        if self.name != space.pooling:
            return False
        return (space.vocabulary or "").startswith(self.vocabulary) if self.fitted else space.vocabulary is None


class Space(BaseModel):
    """A frozen description of one embedding space.

    `size` is (height, width) in pixels of the network's input; `mean` and `std` are per RGB channel in [0, 1] units;
    `dim` is how many numbers a vector has; `weights_digest` is a hex digest of the checkpoint file. `normalized` says that
    vectors have length 1; it cannot be otherwise, and stays in the fingerprints and files that hold it. `vocabulary` is the
    digest of what was fitted to pictures and makes the vectors of what the network gives (`outcrop.embed.vocabulary`).
    `gsd` is the ground sampling distance to which photographs are brought before they are embedded: metres of ground in a pixel
    of the input (`outcrop.schema.ground`); None for pictures as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    weights_digest: str
    size: tuple[int, int]
    fit: Fit = "squash"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pooling: Pooling
    dim: int
    normalized: Literal[True] = True
    vocabulary: str | None = None
    gsd: float | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Spaces without a vocabulary, or without a ground scale, keep the fingerprint that they had before there were any."""
        values: dict[str, Any] = plain(self)
        return {name: value for name, value in values.items() if value is not None or name not in ("vocabulary", "gsd")}

    @property
    def window(self) -> tuple[float, float] | None:
        """Height and width in metres of the ground that the input shows; None without a ground scale."""
        return None if self.gsd is None else (self.gsd * self.size[0], self.gsd * self.size[1])

    @property
    def fingerprint(self) -> str:
        """32 hex characters over every field: equal exactly when all fields are equal."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return digest_of(text)

    def difference(self, other: Space) -> str:
        """The fields in which two spaces differ, as ``size 224x224 != 448x448, fit squash != pad`` ('' when equal)."""
        mine, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        pairs = {name: (mine.get(name, "none"), theirs.get(name, "none")) for name in {**mine, **theirs}}
        return ", ".join(f"{name} {one} != {another}" for name, (one, another) in pairs.items() if one != another)

    @property
    def pooled_by(self) -> str:
        """The pooling as it is asked for: ``avg``, or ``vlad:1a2b3c4d`` with the first digits of the vocabulary."""
        return self.pooling if self.vocabulary is None else f"{self.pooling}:{self.vocabulary[:8]}"

    def __str__(self) -> str:
        size = f"{self.size[0]}x{self.size[1]}"
        scale = f" at {self.gsd:g} m a pixel" if self.gsd is not None else ""
        return f"{self.model} {size} {self.fit}{scale}, {self.pooled_by}, {self.dim}-d [{self.fingerprint[:8]}]"
