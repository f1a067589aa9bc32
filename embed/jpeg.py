"""What the markers of a JPEG say (ITU-T T.81, Annex B): whether a decoder on a GPU may take the file, read without decoding it.

Such decoders fail, or give pixels in silence, where libjpeg on the CPU says what is wrong. So a file goes to one only where its
markers say that it is an ordinary photograph and whole; every other file goes the way it always went.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2
"""The processes whose samples are coded with Huffman's codes and that libjpeg decodes."""
_ARITHMETIC = (0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_ALONE = (0x01, *range(0xD0, 0xD8))
"""Markers without a length behind them: TEM, and restarts."""
_END, _SCAN, _RESTARTS, _ADOBE = 0xD9, 0xDA, 0xDD, 0xEE


@dataclass(frozen=True)
class Markers:
    """The markers of a JPEG up to its first scan.

    `process` is the number of the frame's marker (0xC0 to 0xCF), `bits` those of a sample, `width` and `height` pixels as they
    are stored (not turned by EXIF); `sampling` (across, down) of each component. `interval` is the number of coded blocks between
    restarts, 0 where there are none. `transform` is what Adobe's marker says of the colours, None without one. `scanned`
    components are in the first scan, whose codes begin at the byte `codes`.
    """

    process: int
    bits: int
    width: int
    height: int
    sampling: tuple[tuple[int, int], ...]
    interval: int
    transform: int | None
    scanned: int
    codes: int

    @property
    def blocks(self) -> int:
        """Coded blocks (MCUs) of a scan of all components."""
        across = max(one[0] for one in self.sampling) if len(self.sampling) > 1 else 1
        down = max(one[1] for one in self.sampling) if len(self.sampling) > 1 else 1
        return -(-self.width // (8 * across)) * -(-self.height // (8 * down))


def read_markers(data: bytes) -> Markers | None:
    """The markers of a JPEG file; None where they are damaged, or no scan follows them."""
    frame: tuple[int, int, int, int, tuple[tuple[int, int], ...]] | None = None
    interval, transform, place = 0, None, 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # filled up
            place += 1
            continue
        if marker in _ALONE:
            place += 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        body = data[place + 4 : place + 2 + length]
        if marker == _END or length < 2 or len(body) != length - 2:
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if frame is not None or (frame := _frame(marker, body)) is None:
                return None
        elif marker == _RESTARTS and len(body) == 2:
            interval = int.from_bytes(body, "big")
        elif marker == _ADOBE and body.startswith(b"Adobe") and len(body) >= 12:
            transform = body[11]
        elif marker == _SCAN:
            if frame is None or not body:
                return None
            return Markers(*frame, interval, transform, body[0], place + 2 + length)
        place += 2 + length
    return None


def scale_of(size: tuple[int, int], smallest: tuple[int, int]) -> int:
    """The scale (1, 2, 4 or 8) at which Pillow's draft mode has a JPEG of `size` decoded to keep `smallest` (width, height)."""
    most = min(size[0] // smallest[0], size[1] // smallest[1])
    return next((scale for scale in (8, 4, 2) if most >= scale), 1)


def hide_exif(data: memoryview) -> None:
    """Changes the bytes of a file so that no decoder finds EXIF or XMP in it: some turn pictures by EXIF, and some do not."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != _SCAN:
        if data[place + 1] in _ALONE or data[place + 1] == 0xFF:
            place += 1 if data[place + 1] == 0xFF else 2
            continue
        if data[place + 1] == 0xE1:
            data[place + 1] = 0xEF  # a marker of the same kind that nobody reads
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")


def unfit(markers: Markers | None, data: bytes) -> str:
    """Why a file is decoded on the CPU, in a few words; '' where a GPU's decoder may take it."""
    if markers is None:
        return "damaged"
    if markers.process in _ARITHMETIC:
        return "arithmetic coding"
    if markers.process == PROGRESSIVE:
        return "progressive"
    if markers.process not in (BASELINE, EXTENDED):
        return "lossless or hierarchical"
    if markers.bits != 8:
        return f"{markers.bits} bits"
    if len(markers.sampling) not in (1, 3):
        return "CMYK"
    if markers.transform == 0 and len(markers.sampling) == 3:
        return "stored as RGB"
    if not is_usual(markers.sampling):
        return "unusual subsampling"
    if markers.scanned != len(markers.sampling):
        return "several scans"
    return "" if is_whole(markers, data) else "damaged"


def is_usual(sampling: tuple[tuple[int, int], ...]) -> bool:
    """Whether colours are sampled as cameras do: 4:4:4, 4:2:2, 4:2:0 or 4:4:0, or there are none."""
    return len(sampling) == 1 or (sampling[0] in ((1, 1), (2, 1), (2, 2), (1, 2)) and set(sampling[1:]) == {(1, 1)})


def is_whole(markers: Markers, data: bytes) -> bool:
    """Whether the codes of the only scan run to the file's end marker, with every restart in its place.

    What follows the end (a camera's preview pictures) is not looked at.
    """
    codes = np.frombuffer(data, np.uint8)[markers.codes :]
    found = _markers_among(codes)
    ends = np.flatnonzero((found < 0xD0) | (found > 0xD7))
    if not len(ends) or found[ends[0]] != _END:
        return False
    restarts = found[: ends[0]]
    expected = -(-markers.blocks // markers.interval) - 1 if markers.interval else 0
    return len(restarts) == expected and bool((restarts == 0xD0 + np.arange(expected) % 8).all())


def _markers_among(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The markers among entropy-coded bytes, in order: what follows 0xFF and is neither a stuffed zero nor another 0xFF."""
    after: NDArray[np.uint8] = codes[np.flatnonzero(codes[:-1] == 0xFF) + 1]
    markers: NDArray[np.uint8] = after[(after != 0) & (after != 0xFF)]
    return markers


def _frame(marker: int, body: bytes) -> tuple[int, int, int, int, tuple[tuple[int, int], ...]] | None:
    """The process, bits, width, height and sampling of a frame's marker; None where it is damaged."""
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        return None
    sampling = tuple((body[n + 1] >> 4, body[n + 1] & 15) for n in range(6, len(body), 3))
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if not (sampling and width and height) or not all(1 <= side <= 4 for one in sampling for side in one):
        return None
    return marker, body[0], width, height, sampling
