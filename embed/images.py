"""From the bytes of a file to pixels of the network's size: decode, turn upright, fit, and make thumbnails.

Everything a hostile or broken file can do ends in one `PictureError` with a cause and a fix. All functions
are pure and touch no global of Pillow's, so any number of threads may call them (Pillow releases the GIL
while it decodes and resizes).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

# Importing a plugin registers its format; these are all that is ever opened. Formats that run other programs
# (EPS starts Ghostscript) or are not photographs stay out.
from PIL import (  # isort: skip
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from outcrop.embed.photo import PhotoMetadata, read_metadata, read_orientation
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.space import Fit

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000", "AVIF")

MIN_SIDE = 8
"""Pixels. A side shorter than this is a placeholder or an accident, and any network would invent its
content."""

DRAFT_MARGIN = 2
"""How many times the target's sides a scaled JPEG decode keeps at least. The DCT's own low-pass is blunter
than the bicubic filter: ending between 1 and 2 times the target left vectors as far as cosine 0.988 from
those of a full decode, ending between 2 and 4 times keeps them above 0.999, still at a third of a full
decode's time."""

REDUCING_GAP = 3.0
"""Pictures over this many times the target are box-reduced first, to no less than that: 17 ms instead of 63
for 12 megapixels, with a mean difference of 0.2 grey levels."""

BACKGROUND = (255, 255, 255)
"""What lies under transparent pixels and around padded pictures: white, the background of rendered views."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """A picture ready to be fitted.

    `image` is RGB and upright, perhaps smaller than the file says; `width` and `height` are the upright
    full-size dimensions in pixels; `metadata` is what the photo says about itself.
    """

    image: Image.Image
    width: int
    height: int
    metadata: PhotoMetadata


def decode(data: bytes, *, name: str, at_least: tuple[int, int] | None = None) -> Decoded:
    """Decode the bytes of a picture file into an upright RGB image.

    `name` is what errors call the picture. `at_least` is (height, width) in pixels, as wanted of the upright
    picture: a JPEG is then decoded at the smallest of 1/1, 1/2, 1/4 and 1/8 whose both sides are still
    `DRAFT_MARGIN` times that long; the scaling happens in the DCT domain and costs nothing.

    The first frame of an animation or a stack is taken. Transparency is laid on white. 16-bit grey is scaled
    by the range of its type (65535 becomes 255), so that the same scene has the same brightness in 8 and 16
    bits; 32-bit integers and floats have no such range and are scaled by the picture's own minimum and
    maximum.

    Pillow's decompression-bomb limit is kept, and applied before pixels are allocated: over twice
    `Image.MAX_IMAGE_PIXELS` (Pillow's error limit) a picture is refused; between once (its warning limit) and
    twice, it is refused too unless a scaled JPEG decode brings it under the limit.

    Raises `PictureError` for anything that is not a whole picture with sides of at least `MIN_SIDE` pixels.
    """
    image = _open(data, name)
    try:
        return _read(image, name, at_least)
    except PictureError:
        raise
    except MemoryError:
        raise PictureError(f"{name}: decoding needs more memory than there is; scale the picture down") from None
    except Exception as error:  # Pillow's plugins raise whatever their parsers trip over
        raise PictureError(
            f"{name}: damaged {image.format} ({_cause(error)}); copy or export the file again"
        ) from error
    finally:
        image.close()


def inspect(data: bytes, *, name: str) -> tuple[int, int, PhotoMetadata]:
    """Width and height (pixels, upright) and metadata of a picture file, from its header alone.

    Raises `PictureError` for what is no picture; whether it is whole only `decode` can tell.
    """
    image = _open(data, name)
    try:
        width, height = image.size if read_orientation(image) < 5 else image.size[::-1]
        return width, height, read_metadata(image)
    finally:
        image.close()


def _open(data: bytes, name: str) -> Image.Image:
    """The first plugin that takes the data. `Image.open` would do, but it reports big pictures through the
    process-wide warning filters, which no thread may touch; here `_read` applies the same limits itself."""
    if not data:
        raise PictureError(f"{name}: the file is empty; copy or export it again")
    for kind in FORMATS:
        if kind not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[kind]
        if accept is not None and accept(data[:16]) is not True:
            continue
        try:
            return factory(io.BytesIO(data), "")
        except SyntaxError:
            continue  # Pillow's way of saying "not mine"
        except Exception as error:
            raise PictureError(f"{name}: damaged {kind} ({_cause(error)}); copy or export the file again") from error
    raise PictureError(f"{name}: {_what(data)}; give one of {', '.join(FORMATS)}")


def _what(data: bytes) -> str:
    """A guess at what a file that is no picture holds."""
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page, not a picture (a failed download?)"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the picture itself (run git lfs pull)"
    if not any(data):
        return "only zero bytes, not a picture"
    return "not a picture that can be read, or damaged in its first bytes"


def _cause(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:120] if text else type(error).__name__


def _read(image: Image.Image, name: str, at_least: tuple[int, int] | None) -> Decoded:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise PictureError(f"{name}: is {width}x{height} pixels; a picture needs at least {MIN_SIDE}x{MIN_SIDE}")
    limit = Image.MAX_IMAGE_PIXELS or 0  # None or 0: whoever runs this lifted Pillow's limit
    if limit and width * height > 2 * limit:
        raise PictureError(
            f"{name}: is {width}x{height} pixels, over the limit of {2 * limit:,}; scale it down or cut it into tiles"
        )
    metadata = read_metadata(image)
    if at_least is not None and image.format in ("JPEG", "MPO"):
        want_height, want_width = at_least if read_orientation(image) < 5 else at_least[::-1]
        image.draft(None, (DRAFT_MARGIN * want_width, DRAFT_MARGIN * want_height))
    if limit and image.width * image.height > limit:
        raise PictureError(
            f"{name}: is {width}x{height} pixels, over the limit of {limit:,} for pictures that "
            f"cannot be decoded smaller; scale it down or cut it into tiles"
        )
    image.load()
    orientation = read_orientation(image)  # after load: the TIFF plugin turns the picture itself and drops the tag
    upright = _rgb(image, name)
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
    if orientation >= 5:
        width, height = height, width
    return Decoded(upright, width, height, metadata)


def _rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image).astype(np.float32) / 65535.0)
    if image.mode in ("I", "F"):
        return _grey(_stretched(np.asarray(image).astype(np.float64)))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKGROUND, 255)), layer).convert("RGB")
    if image.mode == "LAB":
        raise PictureError(f"{name}: is in the LAB colour space; export it as sRGB")
    # A fresh image either way: `decode` closes the one it opened. Pillow reads CMYK JPEGs the Adobe way
    # (inverted).
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _stretched(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[0, 1] from the smallest to the largest finite value; non-finite and constant pictures become black."""
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    if not high > low:
        return np.zeros_like(values)
    return np.where(finite, (values - low) / (high - low), 0.0)


def _grey(values: np.ndarray[Any, Any]) -> Image.Image:
    return Image.fromarray(np.rint(values * 255.0).astype(np.uint8)).convert("RGB")


def fit_to(image: Image.Image, size: tuple[int, int], fit: Fit) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pixels of the network's input size: uint8 [H, W, 3], contiguous, RGB.

    `size` is (height, width). ``squash`` scales both sides to fit and keeps all content; ``crop`` scales to
    cover and cuts the middle out; ``pad`` scales to fit inside and centres on white. The filter is bicubic
    with antialiasing (Pillow widens its support when it shrinks). Raises `InputError` for an unknown fit or
    an empty size.
    """
    height, width = size
    if height < 1 or width < 1:
        raise InputError(f"size {height}x{width}: both sides must be at least 1 pixel")
    box, (left, top, *inner) = inner_box(image.size, size, fit)
    whole = box == (0, 0, image.width, image.height)
    fitted = _resized(image, (inner[0], inner[1]), None if whole else box)
    if (inner[0], inner[1]) != (width, height):
        around = Image.new("RGB", (width, height), BACKGROUND)
        around.paste(fitted, (left, top))
        fitted = around
    return np.array(fitted, dtype=np.uint8)


def inner_box(
    picture: tuple[int, int], size: tuple[int, int], fit: Fit
) -> tuple[tuple[float, float, float, float], tuple[int, int, int, int]]:
    """What `fit_to` takes of a picture, and where it puts it.

    `picture` is (width, height) and `size` (height, width) in pixels. Returns the box of the picture (left, top, right,
    bottom) and its place in the input (left, top, width, height). Raises `InputError` for an unknown fit.
    """
    height, width = size
    whole = (0.0, 0.0, float(picture[0]), float(picture[1]))
    if fit == "squash":
        return whole, (0, 0, width, height)
    if fit == "crop":
        return _middle(picture, (width, height)), (0, 0, width, height)
    if fit != "pad":
        raise InputError(f"fit {fit!r}: choose squash, crop or pad")
    scale = min(width / picture[0], height / picture[1])
    inner = max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale))
    return whole, ((width - inner[0]) // 2, (height - inner[1]) // 2, *inner)


def _middle(size: tuple[int, int], shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest centred box (left, top, right, bottom) of `shape`'s proportions inside a picture of `size`,
    in pixels."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    left, top = (size[0] - shape[0] * scale) / 2, (size[1] - shape[1] * scale) / 2
    return max(0.0, left), max(0.0, top), min(size[0], size[0] - left), min(size[1], size[1] - top)


def _resized(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None) -> Image.Image:
    if image.mode != "RGB":
        image = image.convert("RGB")
    if image.size == size and box is None:
        return image
    return image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=REDUCING_GAP)


def thumbnail(image: Image.Image, edge: int = 160, *, shape: tuple[float, float] | None = None) -> bytes:
    """A WebP of about 4 KB whose longer side is at most `edge` pixels; small pictures are not enlarged.

    `shape` (width, height) gives back its proportions to a picture that was squashed.
    """
    if edge < 1:
        raise InputError(f"edge {edge}: a thumbnail needs at least 1 pixel")
    width, height = shape or image.size
    scale = min(1.0, edge / max(image.size)) * max(image.size) / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    buffer = io.BytesIO()
    # Method 2 takes three fifths of the time of the default, 4, for 2 % more bytes.
    _resized(image, size, None).save(buffer, "WEBP", quality=85, method=2)
    return buffer.getvalue()
