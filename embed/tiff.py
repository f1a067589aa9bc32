"""What a TIFF holds, by its directories: raw photographs, previews, nodata, and which bands are red, green and blue.

Pillow opens the first directory of a TIFF. In raw photographs that is a preview, so the directories are looked at before.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from PIL import ExifTags, TiffImagePlugin

from outcrop.embed.xmp import XMP_LIMIT, camera_values

MAX_DIRECTORIES = 32
"""Directories that are looked at: a raw photograph has up to a dozen."""
CFA, LINEAR_RAW = 32803, 34892
"""PhotometricInterpretation of sensor data (TIFF/EP, DNG): a colour filter array, and one already interpolated."""
GDAL_NODATA, GDAL_METADATA, DNG_VERSION = 42113, 42112, 50706

_WANTED = ((660.0, 620.0, 700.0), (555.0, 500.0, 600.0), (470.0, 400.0, 500.0))
"""Of red, green and blue: the wavelength (nm) that is best, and the shortest and longest that will do."""
_NAMES = (("red", "r"), ("green", "g"), ("blue", "b"))
_MAKERS = {"nikon": "NEF", "sony": "ARW", "pentax": "PEF", "samsung": "SRW", "canon": "CR2", "hasselblad": "3FR"}


@dataclass(frozen=True)
class Directory:
    """One directory (IFD) of a TIFF: where it begins in the file, its tags, and whether it is a SubIFD."""

    offset: int
    tags: Mapping[int, Any]
    child: bool = False

    def number(self, tag: int, default: int = 0) -> int:
        """A tag that is one whole number; `default` where it is missing or something else."""
        value = self.tags.get(tag, default)
        if isinstance(value, tuple) and value:
            value = value[0]
        return value if isinstance(value, int) else default

    def numbers(self, tag: int) -> tuple[int, ...]:
        """A tag that is a list of whole numbers; empty where it is missing or something else."""
        value = self.tags.get(tag, ())
        value = value if isinstance(value, tuple) else (value,)
        return value if all(isinstance(one, int) for one in value) else ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored, in pixels."""
        return self.number(TiffImagePlugin.IMAGEWIDTH), self.number(TiffImagePlugin.IMAGELENGTH)

    @property
    def samples(self) -> int:
        """Bands."""
        return self.number(TiffImagePlugin.SAMPLESPERPIXEL, 1)

    @property
    def photometric(self) -> int:
        """How the samples are to be understood."""
        return self.number(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, -1)

    @property
    def orientation(self) -> int:
        """EXIF's orientation, 1 to 8; 0 where none is given."""
        found = self.number(ExifTags.Base.Orientation)
        return found if 1 <= found <= 8 else 0

    @property
    def reduced(self) -> bool:
        """Whether it is a preview or a mask of another directory's picture (NewSubfileType)."""
        return bool(self.number(254) & 0b101)

    @property
    def end(self) -> int:
        """Where the last of its strips or tiles ends in the file; 0 where it has none."""
        offsets = self.numbers(TiffImagePlugin.STRIPOFFSETS) or self.numbers(TiffImagePlugin.TILEOFFSETS)
        lengths = self.numbers(TiffImagePlugin.STRIPBYTECOUNTS) or self.numbers(TiffImagePlugin.TILEBYTECOUNTS)
        return max((offset + length for offset, length in zip(offsets, lengths, strict=False)), default=0)

    @property
    def nodata(self) -> float | None:
        """The value that stands for "nothing was measured" (GDAL_NODATA); None where none is given, or it is NaN."""
        value = self.tags.get(GDAL_NODATA)
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
        try:
            number = float(text.strip("\0 ").replace(",", "."))
        except ValueError:
            return None
        return None if math.isnan(number) else number


def directories(file: IO[bytes]) -> list[Directory]:
    """The directories of a TIFF: the chain, each followed by its SubIFDs, at most `MAX_DIRECTORIES`; those that cannot be read
    are left out. Raises whatever Pillow does where the first cannot be."""
    file.seek(0, io.SEEK_END)
    length = file.tell()
    file.seek(0)
    header = file.read(8)
    header += file.read(8) if b"+" in header[2:4] else b""
    begin = TiffImagePlugin.ImageFileDirectory_v2(header).next
    found: list[Directory] = []
    seen: set[int] = set()
    waiting = [(begin, False)]
    while waiting and len(found) < MAX_DIRECTORIES:
        offset, child = waiting.pop(0)
        if offset in seen or not 0 < offset < length:
            continue
        seen.add(offset)
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        try:
            file.seek(offset)
            directory.load(file)
            made = Directory(offset, dict(directory), child)
        except Exception:  # the parser raises whatever it trips over; only the first directory is needed
            if not found:
                raise
            continue
        found.append(made)
        waiting = [*((one, True) for one in made.numbers(330)), *waiting]
        if directory.next and not child:
            waiting.append((directory.next, False))
    return found


def raw_kind(head: bytes, found: Sequence[Directory]) -> str:
    """What kind of raw photograph a TIFF is (DNG, CR2, NEF …), by its first bytes and directories; '' without sensor data."""
    first = found[0]
    sensor = any(one.photometric in (CFA, LINEAR_RAW) and not one.reduced for one in found)
    if head[8:10] == b"CR":
        return "CR2"
    previews_alone = DNG_VERSION in first.tags and all(one.reduced for one in found)
    if not sensor and not previews_alone:
        return ""
    if DNG_VERSION in first.tags:
        return "DNG"
    make = str(first.tags.get(271, "")).lower()
    return next((name for maker, name in _MAKERS.items() if maker in make), "camera raw")


def picture_of(found: Sequence[Directory]) -> Directory:
    """The directory of the picture itself: the first (of a stack, too), unless it is a preview: marked as one, or smaller than a
    SubIFD that is not marked. Then the largest that is not marked."""
    first = found[0]
    some = [
        one for one in found if (first.reduced or one.child or one is first) and not one.reduced and min(one.size) > 0
    ]
    return max(some, key=lambda one: one.size[0] * one.size[1], default=first)


def beginning_at(data: bytes, directory: Directory) -> bytes:
    """The same file with another directory as its first, so that Pillow opens that one."""
    order = "little" if data[:2] == b"II" else "big"
    if b"+" in data[2:4]:
        return data[:8] + directory.offset.to_bytes(8, order) + data[16:]  # type: ignore[arg-type]
    return data[:4] + directory.offset.to_bytes(4, order) + data[8:]  # type: ignore[arg-type]


def is_shown_wrongly(page: Directory) -> bool:
    """Whether Pillow would open a TIFF's page but show it wrongly: the first bands of many; only the upper 8 of 16 bits, in which
    nodata is not to be found; 32-bit integers without a sign, and 8-bit ones with one, as if it were the other way round; grey in
    which 0 is white, as a negative or with nodata looked for in the positive; 16-bit planes, shifted by a pixel."""
    bits, kind = max(page.numbers(258), default=1), page.number(339, 1)
    deep = page.samples >= 3 and page.nodata is not None and bits > 8
    negative = page.photometric == 0 and page.samples == 1 and (bits > 8 or page.nodata is not None)
    return page.samples > 4 or deep or negative or is_shifted(page) or (bits, kind) in ((32, 1), (8, 2))


def is_shifted(page: Directory) -> bool:
    """Whether Pillow would read the pixels of a page one place off: uncompressed planes of 16 bits."""
    return page.samples > 1 and page.numbers(258)[:1] == (16,) and page.number(284, 1) == 2 and page.number(259, 1) == 1


def alpha_of(page: Directory) -> tuple[int, bool] | None:
    """The band of a page that is its alpha, and whether the colours are multiplied by it already; None where there is none."""
    extra = page.numbers(338)
    found = [(band, kind == 1) for band, kind in enumerate(extra, page.samples - len(extra)) if kind in (1, 2)]
    return found[0] if found and found[0][0] > 0 else None


def packet_of(directory: Directory) -> bytes:
    """The XMP packet of a directory; empty where it has none."""
    found = directory.tags.get(700, b"")
    if isinstance(found, tuple) and found:
        found = found[0]
    return bytes(found[:XMP_LIMIT]) if isinstance(found, (bytes, bytearray)) else b""


def visible_bands(directory: Directory) -> tuple[tuple[int, ...], str]:
    """The bands to be shown as red, green and blue (or as grey, one), and what is to be said of that ('' for nothing)."""
    count = directory.samples
    if count == 1:
        return (0,), ""
    if count == 2:
        return (0,), "" if alpha_of(directory) else "it has 2 bands; the first is read, as grey"
    by_wavelength = _by_wavelength(_wavelengths(directory, count))
    by_name = by_wavelength or _by_name(_band_names(directory, count))
    chosen = by_wavelength or by_name
    if chosen:
        how = "wavelength" if by_wavelength else "name"
        return chosen, f"it has {count} bands; red, green and blue are bands {_listed(chosen)}, by their {how}"
    if count == 3 or (directory.photometric == 2 and count == 4):
        return (0, 1, 2), ""
    return (0, 1, 2), f"it has {count} bands; the first three are read as red, green and blue"


def _listed(bands: Sequence[int]) -> str:
    return ", ".join(str(band + 1) for band in bands)


def _wavelengths(directory: Directory, count: int) -> list[float]:
    """The central wavelength of each band in nm; empty where they are not given."""
    texts = camera_values(packet_of(directory), "CentralWavelength") or _gdal(
        directory, count, ("central_wavelength_um", "central_wavelength_nm", "wavelength", "wavelengths")
    )
    try:
        values = [float(re.sub(r"[^\d.+-]", "", text)) for text in texts]
    except ValueError:
        return []
    values = [1000 * value if 0 < value < 20 else value for value in values]  # some write micrometres
    return values if len(values) == count else []


def _band_names(directory: Directory, count: int) -> list[str]:
    names = camera_values(packet_of(directory), "BandName") or _gdal(directory, count, ("description",))
    return [name.lower() for name in names] if len(names) == count else []


def _gdal(directory: Directory, count: int, names: Sequence[str]) -> list[str]:
    """The items of GDAL's metadata that each band has, the first of `names` that all have; '' for bands without."""
    text = directory.tags.get(GDAL_METADATA, "")
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    found: dict[str, dict[int, str]] = {}
    for head, value in re.findall(r"<Item ([^>]{0,300})>([^<]{0,300})</Item>", text[:XMP_LIMIT]):
        name, sample = re.search(r'name="([^"]*)"', head), re.search(r'sample="(\d{1,5})"', head)
        if name and sample:
            found.setdefault(name[1].lower(), {})[int(sample[1])] = value.strip()
    for wanted in names:
        given = found.get(wanted, {})
        if set(given) >= set(range(count)):
            return [given[band] for band in range(count)]
    return []


def _by_wavelength(values: Sequence[float]) -> tuple[int, ...]:
    chosen = []
    for best, shortest, longest in _WANTED:
        fit = [band for band, value in enumerate(values) if shortest <= value <= longest]
        if not fit:
            return ()
        chosen.append(min(fit, key=lambda band: abs(values[band] - best)))
    return tuple(chosen)


def _by_name(names: Sequence[str]) -> tuple[int, ...]:
    chosen = [next((names.index(name) for name in wanted if name in names), -1) for wanted in _NAMES]
    return () if -1 in chosen else tuple(chosen)
