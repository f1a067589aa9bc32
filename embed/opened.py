"""Opens a picture file with whatever reads it: Pillow, the samples of a TIFF, or LibRaw. All give the same few answers."""

from __future__ import annotations

import io
from typing import Any, Protocol

from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import COMPRESSION_INFO

from outcrop.embed.adobe_rgb import adobe_rgb
from outcrop.embed.colours import BACKGROUND, eight_bits, holes, on_white, opacity, stretched, to_rgb, transform_of
from outcrop.embed.formats import format_of, jpeg_trouble, png_damage, png_says_something, raw_name, what_it_is
from outcrop.embed.geotiff import GEO_KEYS, with_position
from outcrop.embed.photo import PhotoMetadata, in_adobe_rgb, metadata_of, read_metadata, read_orientation, tiff_exif
from outcrop.embed.png_keys import colour_key, is_transparent
from outcrop.embed.raws import RawPhotograph, register_heif
from outcrop.embed.remarks import note
from outcrop.embed.tiff import (
    Directory,
    alpha_of,
    beginning_at,
    directories,
    is_shifted,
    is_shown_wrongly,
    packet_of,
    picture_of,
    raw_kind,
    visible_bands,
)
from outcrop.embed.tiff_samples import OTHER_COMPRESSIONS, Samples, Unsupported, read_samples
from outcrop.schema.errors import PictureError

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of each EXIF orientation upright."""


class Opened(Protocol):
    """A picture file whose header has been read: its format, its upright size in pixels (width, height), and whether the header
    says all that `metadata` does (of a PNG, some may stand behind the pixels, and the size may be the other way round)."""

    kind: str
    size: tuple[int, int]
    complete: bool

    def draft(self, smallest: tuple[int, int]) -> tuple[int, int]:
        """Prepares a scaled decode that keeps at least `smallest` (width, height, upright); the size that will be decoded."""
        ...

    def load(self) -> None:
        """Decodes the pixels. Raises whatever the reader does where they are damaged."""
        ...

    def rgb(self) -> Image.Image:
        """The loaded picture, upright, as 8-bit sRGB."""
        ...

    def metadata(self) -> PhotoMetadata:
        """What the photograph says of itself; where the header is not `complete`, only once it is loaded. Never raises."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


def open_picture(data: bytes, name: str) -> Opened:
    """Opens the bytes of a picture file; `name` is what errors call it.

    Raises:
        PictureError: it is empty, of a format that is not read, or its header is damaged.
        Image.DecompressionBombError: it has more pixels than Pillow's limit.
    """
    if not data:
        raise PictureError(f"{name}: the file is empty; copy or export it again")
    kind = format_of(data)
    if kind == "TIFF":
        return _open_tiff(data, name)
    if kind == "raw":
        return _Raw(RawPhotograph(data, name, raw_name(data)), PhotoMetadata())
    if kind == "HEIF":
        register_heif(name)
    elif not kind:
        raise PictureError(f"{name}: {what_it_is(data)}")
    if kind == "JPEG" and (trouble := jpeg_trouble(data)):
        raise PictureError(f"{name}: is {trouble}")
    if kind == "PNG" and (damage := png_damage(data)):
        raise damaged(name, kind, damage)
    image = _pillow(data, name, kind)
    facts = PhotoMetadata() if kind == "PNG" and not png_says_something(data) else None
    if kind == "PNG" and (key := colour_key(io.BytesIO(data))):
        return _KeyedPng(image, name, facts, data, key)
    return PillowPicture(image, name, facts=facts)


def damaged(name: str, kind: str, cause: str) -> PictureError:
    """The error of a file of a known format that is damaged."""
    return PictureError(f"{name}: damaged {kind} ({' '.join(cause.split())[:160]}); copy or export the file again")


def _pillow(data: bytes, name: str, kind: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=(kind,))
    except UnidentifiedImageError:
        raise damaged(name, kind, "its header is wrong or cut off") from None
    if kind == "JPEG" and isinstance(image, ImageFile.ImageFile):
        # Decoded in one piece: after each of Pillow's pieces of 64 KB a thread waits until no other runs Python.
        image.decodermaxblock = max(image.decodermaxblock, len(data))
    return image


class PillowPicture:
    """A picture that Pillow reads. `nodata` is the value of a TIFF that stands for nothing; `facts` what another directory of the
    file says of the photograph; `turn` the orientation that Pillow does not know of."""

    def __init__(
        self,
        image: Image.Image,
        name: str,
        nodata: float | None = None,
        facts: PhotoMetadata | None = None,
        turn: int = 1,
    ) -> None:
        self._image, self._name, self._nodata, self._facts, self._turn = image, name, nodata, facts, turn
        self.kind = image.format or "picture"
        self._stored = image.size
        # Pillow's TIFF plugin gives the upright size and turns the pixels itself when it loads them.
        self._turns_itself = self.kind in ("TIFF", "HEIF")
        self.complete = self.kind != "PNG" or facts is not None
        # The EXIF of a PNG may stand behind its pixels: it is asked for once they are loaded.
        self.size = self._upright(1 if self.kind == "PNG" else self._orientation())

    def draft(self, smallest: tuple[int, int]) -> tuple[int, int]:
        """See `Opened`; only JPEGs can."""
        if self.kind in ("JPEG", "MPO"):
            self._image.draft(None, smallest if self._orientation() < 5 else smallest[::-1])
        return self._image.size

    def load(self) -> None:
        """See `Opened`."""
        orientation = self._orientation() if self._turns_itself else 0
        try:
            self._image.load()
        except Exception as error:
            if self.kind == "TIFF" and (name := self._compression()):
                raise Unsupported(
                    f"is compressed as {name}, which is not read here; export it with LZW or Deflate"
                ) from error
            raise
        self._loaded = orientation or self._orientation()
        if self.kind == "PNG":
            self.size = self._upright(self._loaded)

    def rgb(self) -> Image.Image:
        """See `Opened`."""
        if not self._image.info.get("icc_profile") and self.kind in ("JPEG", "MPO") and in_adobe_rgb(self._image):
            self._image.info["icc_profile"] = adobe_rgb()
        flat = self._flat()
        return flat.transpose(UPRIGHT[self._loaded]) if self._loaded in UPRIGHT else flat

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height in pixels as they are stored, not turned by EXIF."""
        return self._stored

    @property
    def orientation(self) -> int:
        """How the stored pixels are turned, as EXIF numbers it."""
        return self._orientation()

    @property
    def srgb(self) -> bool:
        """Whether the stored colours need no profile to become sRGB, so that `rgb` only turns them."""
        profile = self._image.info.get("icc_profile")
        return transform_of(profile) is None if profile else not in_adobe_rgb(self._image)

    def metadata(self) -> PhotoMetadata:
        """See `Opened`."""
        return read_metadata(self._image) if self._facts is None else self._facts

    def close(self) -> None:
        """See `Opened`."""
        self._image.close()

    def _flat(self) -> Image.Image:
        return to_rgb(self._image, self._name, self._nodata, 12 if self._tag(258) == 12 else 16)

    def _orientation(self) -> int:
        return self._turn if self._turns_itself else read_orientation(self._image)

    def _upright(self, orientation: int) -> tuple[int, int]:
        return self._stored if orientation < 5 else (self._stored[1], self._stored[0])

    def _compression(self) -> str:
        """The name of a TIFF's compression where it is one that libtiff may have been built without."""
        number = self._tag(259)
        return OTHER_COMPRESSIONS.get(number, "") if number >= 32809 else ""

    def _tag(self, number: int) -> int:
        """A TIFF's tag that is one whole number, or the first of several; 1 where there is none."""
        tags: Any = getattr(self._image, "tag_v2", {})
        found = tags.get(number, 1)
        found = found[0] if isinstance(found, tuple) and found else found
        return found if isinstance(found, int) else 1


class _KeyedPng(PillowPicture):
    """A PNG of which one colour, `key`, is transparent, and Pillow would not find it (`outcrop.embed.png_keys`)."""

    def __init__(
        self, image: Image.Image, name: str, facts: PhotoMetadata | None, data: bytes, key: tuple[int, ...]
    ) -> None:
        super().__init__(image, name, facts=facts)
        self._data, self._key = data, key

    def load(self) -> None:
        """See `Opened`."""
        super().load()
        self._image.info.pop("transparency", None)

    def _flat(self) -> Image.Image:
        flat = super()._flat()
        flat.paste(BACKGROUND, mask=Image.fromarray(is_transparent(self._image, self._data, self._key)))
        return flat


class _Tiff:
    """A TIFF whose samples are read here."""

    kind = "TIFF"
    complete = True

    def __init__(self, data: bytes, name: str, page: Directory, facts: PhotoMetadata, turn: int) -> None:
        self._data, self._page, self._facts, self._turn = data, page, facts, turn
        self._layout = Samples.of(page, data[:2] == b"II")
        if page.photometric not in (0, 1, 2):
            raise Unsupported(f"has a colour model ({page.photometric}) that is not read; export it as RGB")
        self._bands, said = visible_bands(page)
        self._alpha = alpha_of(page)
        if said:
            note(said)
        self.size = page.size if turn < 5 else page.size[::-1]

    def draft(self, smallest: tuple[int, int]) -> tuple[int, int]:
        return self.size

    def load(self) -> None:
        bands = self._bands if self._alpha is None else (*self._bands, self._alpha[0])
        self._samples = read_samples(self._data, self._layout, bands)

    def rgb(self) -> Image.Image:
        count = len(self._bands)
        values = self._samples[..., :3] if count == 3 else self._samples[..., 0]
        alpha = opacity(self._samples[..., count]) if self._alpha is not None else None
        empty = holes(values, self._page.nodata) if alpha is None else holes(values, None) | (alpha == 0)
        if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
            made = eight_bits(values, empty)
        else:
            made = stretched(values.astype("f8"), empty)
        if self._page.photometric == 0:
            made = (255 - made) * ~empty
        if alpha is not None and self._alpha is not None:
            made = on_white(made, alpha, multiplied=self._alpha[1])
        flat = Image.fromarray(made)
        if values.dtype.kind == "u":
            flat.info["icc_profile"] = self._page.tags.get(34675)
        flat = to_rgb(flat, "")
        return flat.transpose(UPRIGHT[self._turn]) if self._turn in UPRIGHT else flat

    def metadata(self) -> PhotoMetadata:
        return self._facts

    def close(self) -> None:
        del self._data


class _Raw:
    """A raw photograph."""

    kind = "raw"
    complete = True

    def __init__(self, raw: RawPhotograph, facts: PhotoMetadata) -> None:
        self._raw, self._facts = raw, facts
        self._smallest: tuple[int, int] | None = None
        self.size = raw.size

    def draft(self, smallest: tuple[int, int]) -> tuple[int, int]:
        self._smallest = smallest
        return self.size

    def load(self) -> None:
        self._image = self._raw.read(self._smallest)

    def rgb(self) -> Image.Image:
        return self._image

    def metadata(self) -> PhotoMetadata:
        return self._facts

    def close(self) -> None:
        self._raw.close()


def _open_tiff(data: bytes, name: str) -> Opened:
    try:
        found = directories(io.BytesIO(data))
    except Exception as error:
        raise damaged(name, "TIFF", str(error) or type(error).__name__) from error
    if not found:
        raise damaged(name, "TIFF", "its directory lies behind the end of the file")
    page, first = picture_of(found), found[0]
    if kind := raw_kind(data, found):
        if any(one.end > len(data) for one in found if not one.reduced):
            raise damaged(name, kind, "it is cut off")
        return _Raw(RawPhotograph(data, name, kind), _facts(data, first, first))
    turn = page.orientation or first.orientation or 1
    if is_shown_wrongly(page):
        try:
            return _Tiff(data, name, page, _facts(data, page, first), turn)
        except Unsupported:
            if is_shifted(page):
                raise
            # Pillow may know it.
    if (number := page.number(259, 1)) not in COMPRESSION_INFO:
        raise PictureError(
            f"{name}: is compressed as {OTHER_COMPRESSIONS.get(number, number)}; export it with LZW or Deflate"
        )
    try:
        image = _pillow(data if page is first else beginning_at(data, page), name, "TIFF")
    except PictureError:
        try:
            return _Tiff(data, name, page, _facts(data, page, first), turn)
        except Unsupported as why:
            raise PictureError(f"{name}: {why}") from None
        except ValueError as error:
            raise damaged(name, "TIFF", str(error)) from None
    facts = None if page is first and GEO_KEYS not in page.tags else _facts(data, page, first)
    return PillowPicture(image, name, page.nodata, facts, 1 if page.orientation else turn)


def _facts(data: bytes, page: Directory, first: Directory) -> PhotoMetadata:
    facts = metadata_of(tiff_exif(io.BytesIO(data), first.offset), packet_of(page) or packet_of(first))
    return with_position(facts, page)
