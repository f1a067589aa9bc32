"""What one forward pass makes of pictures, and the kinds in which it is kept: global, patch, grid and dense features.

A kind is written ``patch``, ``patch:stride=2``, ``patch:random=256:seed=7``, ``grid``, ``grid:side=8``, ``dense``,
``dense:stride=4`` or ``global``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.errors import InputError, nearest
from outcrop.schema.space import Space

Array = NDArray[np.float32]
What = Literal["global", "patch", "grid", "dense"]

GRID_SIDE = 4
DENSE_STRIDE = 8
_OPTIONS: dict[str, tuple[str, ...]] = {
    "global": (),
    "patch": ("stride", "random", "seed"),
    "grid": ("side",),
    "dense": ("stride",),
}


@dataclass(frozen=True)
class Features:
    """What one pass makes of N pictures.

    `vectors` are [N, D], of length 1: what the collection holds. `patches` are [N, H, W, D'], one token for each patch of the
    input (of a convolutional network: for each place of its last map), rows from the top, as the network ends, with no
    normalisation after it.
    """

    vectors: Array
    patches: Array


@dataclass(frozen=True)
class FeatureKind:
    """One way to keep features.

    - ``global``: the vector, [D].
    - ``patch``: the tokens. Raw, [H, W, D]; every `stride`-th of each row and column, [h, w, D]; or `random` of them chosen
      by `seed`, the same places in every picture, [n, D] in the order of the rows.
    - ``grid``: `side` x `side` means over equal cells, [g, g, D]; cells that no patch border meets share patches.
    - ``dense``: tokens interpolated (bilinear) to one for each `stride` x `stride` pixels of the input, [h, w, D].
    """

    what: What
    stride: int = 1
    random: int = 0
    seed: int = 0
    side: int = 0

    @classmethod
    def parse(cls, text: str) -> FeatureKind:
        """A kind as it is written; see the module. Raises `InputError` that names the nearest."""
        name, *options = text.strip().split(":")
        if name not in _OPTIONS:
            raise InputError(f"features {name!r}: choose {', '.join(_OPTIONS)}{nearest(name, _OPTIONS)}")
        values: dict[str, int] = {}
        for option in options:
            found = re.fullmatch(r"([a-z]+)=(\d{1,9})", option)
            if not found or found[1] not in _OPTIONS[name] or found[1] in values:
                known = ", ".join(f"{known}=N" for known in _OPTIONS[name]) or "none"
                raise InputError(
                    f"features {text!r}: {option!r} is not an option of {name}, or is given twice; the options are {known}"
                )
            values[found[1]] = int(found[2])
        if any(values.get(option) == 0 for option in ("stride", "random", "side")):
            raise InputError(f"features {text!r}: the number must be at least 1")
        if "random" in values and "stride" in values:
            raise InputError(f"features {text!r}: give stride or random, not both")
        if "seed" in values and "random" not in values:
            raise InputError(f"features {text!r}: a seed without random has no effect; give random=N too")
        if name == "grid":
            values.setdefault("side", GRID_SIDE)
        if name == "dense":
            values.setdefault("stride", DENSE_STRIDE)
        return cls(name, **values)  # type: ignore[arg-type]  # just checked

    @classmethod
    def parse_all(cls, text: str) -> tuple[FeatureKind, ...]:
        """Kinds with commas between them, each once."""
        return tuple(dict.fromkeys(cls.parse(part) for part in text.split(",")))

    @classmethod
    def named(cls, name: str) -> FeatureKind:
        """The kind of a `name`. Raises `InputError` where no kind has it."""
        text = re.sub(r"-(stride|random|seed)(\d+)", r":\1=\2", name)
        text = re.sub(r"^grid(\d+)$", r"grid:side=\1", re.sub(r"^dense(\d+)$", r"dense:stride=\1", text))
        return cls.parse(text)

    @property
    def name(self) -> str:
        """``global``, ``patch``, ``patch-stride2``, ``patch-random256-seed7``, ``grid4`` or ``dense8``: fit for a folder."""
        if self.what == "patch" and self.random:
            return f"patch-random{self.random}-seed{self.seed}"
        if self.what == "patch":
            return f"patch-stride{self.stride}" if self.stride > 1 else "patch"
        return {"global": "global", "grid": f"grid{self.side}", "dense": f"dense{self.stride}"}[self.what]

    def make(self, features: Features, size: tuple[int, int]) -> Array:
        """These features of every picture, float32 [N, …]; `size` is the input's (height, width) in pixels."""
        tokens = features.patches
        if self.what == "global":
            return features.vectors
        if self.what == "grid":
            return _cells(tokens, self.side)
        if self.what == "dense":
            return _interpolated(tokens, _dense_shape(size, self.stride))
        if self.random:
            flat = tokens.reshape(len(tokens), -1, tokens.shape[-1])
            return flat[:, self._chosen(flat.shape[1])]
        start = (self.stride - 1) // 2
        return tokens[:, start :: self.stride, start :: self.stride]

    def shape(self, grid: tuple[int, int], space: Space, dim: int) -> tuple[int, ...]:
        """The shape of one picture's features, for `grid` (rows, columns) of patch tokens `dim` wide."""
        if self.what == "global":
            return (space.dim,)
        return (*self.centres(grid, space.size).shape[:-1], dim)

    def centres(self, grid: tuple[int, int], size: tuple[int, int]) -> NDArray[np.float64]:
        """Where each of these features has its middle in the input: (x, y) in pixels, [2], [n, 2] or [h, w, 2].

        `grid` is (rows, columns) of patches, `size` the input's (height, width). The upper left pixel has its centre at (0, 0);
        `outcrop.embed.placement.Placement.to_source` goes on to the picture.
        """
        if self.what == "global":
            return np.array([size[1] / 2 - 0.5, size[0] / 2 - 0.5])
        if self.what == "grid":
            return _lattice((self.side, self.side), size)
        if self.what == "dense":
            return _lattice(_dense_shape(size, self.stride), size)
        whole = _lattice(grid, size)
        if self.random:
            chosen: NDArray[np.float64] = whole.reshape(-1, 2)[self._chosen(grid[0] * grid[1])]
            return chosen
        start = (self.stride - 1) // 2
        return whole[start :: self.stride, start :: self.stride]

    def _chosen(self, count: int) -> NDArray[Any]:
        """Places of the random tokens, in order. `RandomState` is the generator whose stream numpy never changes."""
        return np.sort(np.random.RandomState(self.seed).permutation(count)[: self.random])


assert set(_OPTIONS) == set(get_args(What))


def _lattice(shape: tuple[int, int], size: tuple[int, int]) -> NDArray[np.float64]:
    """The centres (x, y) of equal cells, [rows, columns, 2]."""
    y, x = ((np.arange(count) + 0.5) * length / count - 0.5 for count, length in zip(shape, size, strict=True))
    return np.stack(np.broadcast_arrays(x[None, :], y[:, None]), -1)


def _cells(tokens: Array, side: int) -> Array:
    """Means over `side` x `side` cells; where the sides are no multiples, cells reach out to whole patches and overlap."""
    rows, columns = tokens.shape[1:3]
    pooled = np.empty((len(tokens), side, side, tokens.shape[-1]), np.float32)
    for y in range(side):
        for x in range(side):
            down = slice(y * rows // side, -(-(y + 1) * rows // side))
            across = slice(x * columns // side, -(-(x + 1) * columns // side))
            pooled[:, y, x] = tokens[:, down, across].mean(axis=(1, 2))
    return pooled


def _dense_shape(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return max(1, size[0] // stride), max(1, size[1] // stride)


def _interpolated(tokens: Array, shape: tuple[int, int]) -> Array:
    """Tokens at the centres of `shape` equal cells, bilinear between the centres of the patches, constant beyond them."""
    for axis, length in ((1, shape[0]), (2, shape[1])):
        count = tokens.shape[axis]
        place = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
        low = np.floor(place).astype(int)
        part = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(tokens.ndim)])
        nearer, farther = np.take(tokens, low, axis), np.take(tokens, np.minimum(low + 1, count - 1), axis)
        tokens = nearer * (1 - part) + farther * part
    return tokens
