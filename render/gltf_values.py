"""The numbers of a glTF file: buffers, buffer views and accessors (Khronos, glTF 2.0 specification, section 3.6)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.render.preflight import MAX_BYTES, check_claims, check_size
from outcrop.schema.errors import MeshError

_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


class Values:
    """The accessors of a file. `outside` reads a buffer that lies in a file of its own; `own` is the GLB's binary chunk.

    Everything that does not fit raises `MeshError`, or an error that `outcrop.render.geometry.load` calls damage.
    """

    def __init__(self, tree: dict[str, Any], own: bytes | None, outside: Callable[[str], bytes], name: str) -> None:
        self._tree, self._own, self._outside, self._name = tree, own, outside, name
        self._buffers: dict[int, bytes] = {}

    def view(self, number: int) -> tuple[bytes, int]:
        """The bytes of a buffer view, and its stride (0 = none stated)."""
        view = entry(self._tree, "bufferViews", number)
        data = self._buffer(whole(view.get("buffer", -1)))
        start, length = whole(view.get("byteOffset", 0)), whole(view["byteLength"])
        if start + length > len(data):
            raise MeshError(
                f"{self._name}: a part of it claims bytes {start:,} to {start + length:,}, but its buffer has {len(data):,}; "
                "it is cut short, or its counts are false"
            )
        return data[start : start + length], whole(view.get("byteStride", 0))

    def read(self, number: int) -> NDArray[Any]:
        """An accessor as numbers [N, width]: float64 where it is floating or normalised, else int64."""
        accessor = entry(self._tree, "accessors", number)
        count, width = whole(accessor["count"]), _WIDTHS[accessor["type"]]
        kind = np.dtype(_TYPES[accessor["componentType"]])
        check_size(0, count // 3, self._name)
        raw = np.zeros((count, width), kind)
        if "bufferView" in accessor:
            raw = self._packed(accessor, count, width, kind)
        if "sparse" in accessor:
            raw = self._sparse(raw.copy(), accessor["sparse"], width, kind)
        if kind.kind == "f":
            return raw.astype(np.float64)
        if not accessor.get("normalized"):
            return raw.astype(np.int64)
        return np.maximum(raw.astype(np.float64) / np.iinfo(kind).max, -1.0)

    def is_bytes(self, number: int) -> bool:
        """Whether an accessor's numbers are of 8 bits."""
        return entry(self._tree, "accessors", number)["componentType"] in (5120, 5121)

    def _packed(self, accessor: dict[str, Any], count: int, width: int, kind: np.dtype[Any]) -> NDArray[Any]:
        data, stride = self.view(whole(accessor["bufferView"]))
        size, start = width * kind.itemsize, whole(accessor.get("byteOffset", 0))
        stride = stride or size
        needed = start + stride * (count - 1) + size if count else 0
        check_claims({"value": count}, needed, len(data), self._name)
        return np.ndarray((count, width), kind, data, start, (stride, kind.itemsize))

    def _sparse(self, raw: NDArray[Any], sparse: dict[str, Any], width: int, kind: np.dtype[Any]) -> NDArray[Any]:
        count, places, values = whole(sparse["count"]), sparse["indices"], sparse["values"]
        check_size(0, count // 3, self._name)
        index = self._packed(places, count, 1, np.dtype(_TYPES[places["componentType"]]))[:, 0].astype(np.int64)
        raw[index] = self._packed(values, count, width, kind)
        return raw

    def _buffer(self, number: int) -> bytes:
        if number not in self._buffers:
            buffer = entry(self._tree, "buffers", number)
            uri = buffer.get("uri")
            if uri is None and number == 0 and self._own is not None:
                self._buffers[number] = self._own
            elif not isinstance(uri, str):
                raise MeshError(f"{self._name}: its binary part is missing; it is cut short")
            else:
                self._buffers[number] = embedded(uri, self._name) if uri.startswith("data:") else self._outside(uri)
            if sum(map(len, self._buffers.values())) > MAX_BYTES:
                raise MeshError(f"{self._name}: its buffers have more bytes than can be read; simplify it")
        return self._buffers[number]


def entry(tree: dict[str, Any], kind: str, number: Any) -> Any:
    """An entry of one of the file's lists.

    Raises:
        ValueError: there is none of that number.
    """
    entries = tree.get(kind, [])
    if not isinstance(number, int) or not 0 <= number < len(entries):
        raise ValueError(f"{kind} has no entry {number!r}")
    return entries[number]


def whole(value: Any) -> int:
    """A number that must be whole and not negative.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"{str(value)[:40]!r} is not a count")
    return value


def embedded(uri: str, name: str) -> bytes:
    """The bytes of a ``data:`` URI.

    Raises:
        MeshError: they are not base64.
    """
    head, _, text = uri.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError("not base64")
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MeshError(f"{name}: the data inside of it are not base64; it is damaged") from None
