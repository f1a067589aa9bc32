"""An embedding space: everything that decides whether two vectors may be compared.

Two vectors are comparable only if the same weights, preprocessing and pooling made them. The fingerprint is a digest over
all of that; it names the physical collection and is checked before anything is written or searched.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict

from outcrop.schema.digests import digest_of

Fit = Literal["squash", "crop", "pad"]
Pooling = Literal["avg", "token", "gem", "native"]


class Space(BaseModel):
    """A frozen description of one embedding space.

    `size` is (height, width) in pixels of the network's input; `mean` and `std` are per RGB channel in [0, 1] units;
    `dim` is how many numbers a vector has; `weights_digest` is a hex digest of the checkpoint file. `normalized` says that
    vectors have length 1; it cannot be otherwise, and stays in the fingerprints and files that hold it.
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

    @property
    def fingerprint(self) -> str:
        """32 hex characters over every field: equal exactly when all fields are equal."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return digest_of(text)

    def difference(self, other: Space) -> str:
        """The fields in which two spaces differ, as ``size 224x224 != 448x448, fit squash != pad`` ('' when equal)."""
        mine, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        return ", ".join(f"{name} {mine[name]} != {theirs[name]}" for name in mine if mine[name] != theirs[name])

    def __str__(self) -> str:
        return f"{self.model} {self.size[0]}x{self.size[1]} {self.fit}, {self.pooling}, {self.dim}-d [{self.fingerprint[:8]}]"
