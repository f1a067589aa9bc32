"""From the modes in which pictures are stored to 8-bit sRGB: bit depths, nodata, transparency, colour profiles."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from outcrop.embed.remarks import listen, note
from outcrop.schema.errors import PictureError

listen()

BACKGROUND = (255, 255, 255)
"""What lies under transparent pixels and around padded pictures: white, the background of rendered views."""
SAME = 1
"""Grey levels by which a profile may differ from sRGB and still count as sRGB."""

_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Of ICC's colour spaces, those of pictures, and the mode that Pillow gives to them."""


def to_rgb(image: Image.Image, name: str, nodata: float | None = None, bits: int = 16) -> Image.Image:
    """A loaded picture as 8-bit sRGB, always as a new image.

    16-bit grey is scaled by the range of its type (65535 becomes 255; 4095 where it has 12 `bits`); 32-bit integers and floats
    have no such range and are scaled by the picture's own minimum and maximum. Values equal to `nodata`, and those that are not
    finite, become black and take no part in the range. Transparency is laid on white. Raises `PictureError` for LAB, which
    nothing converts.
    """
    if image.mode == "LAB":
        raise PictureError(f"{name}: is in the LAB colour space; export it as sRGB")
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        return _profiled(Image.fromarray(eight_bits(values, holes(values, nodata), (1 << bits) - 1)), profile)
    if image.mode in ("I", "F"):
        wide = np.asarray(image)
        return Image.fromarray(stretched(wide.astype(np.float64), holes(wide, nodata))).convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKGROUND, 255)), layer).convert("RGB")
        return _profiled(flat, profile)
    masked = _masked(image, nodata) if nodata is not None else image
    # Pillow reads CMYK JPEGs the Adobe way (inverted).
    return _profiled(masked, profile) if profile else _fresh(masked)


def holes(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Where an array [H, W] or [H, W, B] says nothing: not finite, or every band equal to `nodata`."""
    floating = values.dtype.kind == "f"
    empty = ~np.isfinite(values) if floating else np.zeros(values.shape, bool)
    if nodata is not None:
        # A float32 picture can only hold the float32 nearest to what the tag says (-3.4028234663852886e+38, say).
        with np.errstate(over="ignore"):
            empty |= values == (values.dtype.type(nodata) if floating else nodata)
    return empty if empty.ndim == 2 else np.asarray(empty.all(-1))


def eight_bits(values: NDArray[Any], empty: NDArray[np.bool_], top: int = 0) -> NDArray[np.uint8]:
    """Unsigned integers [H, W] or [H, W, 3] scaled to uint8, `top` (else the largest of their type) to 255; `empty` is black."""
    span = float(top or np.iinfo(values.dtype).max)
    scaled = np.rint(values.astype(np.float32) / np.float32(span) * np.float32(255)) if span != 255 else values
    made = np.ascontiguousarray(scaled, np.uint8)
    if empty.any():
        made = np.where(empty if made.ndim == 2 else empty[..., None], np.uint8(0), made)
    return made


def stretched(values: NDArray[np.float64], empty: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """uint8 from the smallest (0) to the largest (255) of the values [H, W] or [H, W, 3] outside of `empty` [H, W].

    `empty`, values that are not finite, and pictures of one value are black.
    """
    valid = np.isfinite(values) & ~(empty if values.ndim == 2 else empty[..., None])
    low, high = (values[valid].min(), values[valid].max()) if valid.any() else (0.0, 0.0)
    span = high - low
    if not (span > 0 and np.isfinite(span)):
        if not high > low:
            return np.zeros(values.shape, np.uint8)
        values, low, span = values / 2, low / 2, high / 2 - low / 2  # a range wider than a double holds
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(valid, np.rint((values - low) / span * 255.0), 0.0).astype(np.uint8)


def opacity(alpha: NDArray[Any]) -> NDArray[np.float32]:
    """An alpha band [H, W] from 0 (transparent) to 1: of unsigned integers by their range, else by its largest value."""
    if alpha.dtype.kind == "u":
        return alpha.astype(np.float32) / np.float32(np.iinfo(alpha.dtype).max)
    known = np.where(np.isfinite(alpha), alpha, 0).clip(0).astype(np.float64)
    return (known / (known.max() or 1.0)).astype(np.float32)


def on_white(made: NDArray[np.uint8], alpha: NDArray[np.float32], *, multiplied: bool) -> NDArray[np.uint8]:
    """Grey [H, W] or colour [H, W, 3] laid on white by its opacity [H, W]; `multiplied` colours have been by it already."""
    share = alpha if made.ndim == 2 else alpha[..., None]
    laid = (made if multiplied else made * share) + 255.0 * (1 - share)
    return np.asarray(np.rint(np.clip(laid, 0, 255)), np.uint8)


def _masked(image: Image.Image, nodata: float) -> Image.Image:
    """An 8-bit picture whose nodata pixels (all bands equal to it) are black."""
    if image.mode not in ("L", "RGB", "P"):
        return image
    empty = holes(np.asarray(image), nodata)
    if not empty.any():
        return image
    made = image.convert("RGB") if image.mode == "P" else image.copy()
    made.paste(0 if made.mode == "L" else (0, 0, 0), mask=Image.fromarray(empty))
    return made


def _fresh(image: Image.Image) -> Image.Image:
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _profiled(image: Image.Image, profile: Any) -> Image.Image:
    """The picture in sRGB: through its profile where that says otherwise."""
    made = transform_of(profile) if isinstance(profile, bytes) and profile else None
    if made is None:
        return _fresh(image)
    if isinstance(made, str):
        note(made)
        return _fresh(image)
    mode, transform = made
    if mode != image.mode:
        if mode != "RGB" or image.mode == "CMYK":
            note(f"its colour profile is one of {mode}, but the picture is {image.mode}; read as sRGB")
            return _fresh(image)
        image = image.convert("RGB")
    found = ImageCms.applyTransform(image, transform)
    assert found is not None  # it is only changed in place where that is asked for
    found.info.pop("icc_profile", None)
    return found


@functools.lru_cache(maxsize=16)
def transform_of(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform] | str | None:
    """The mode that an ICC profile is for and the transform from it to sRGB; None where it is sRGB, a remark if unusable.

    Whether a profile is sRGB is judged by what it does to colours, since its name says little. Little CMS transforms may be
    used by several threads at once.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _SPACES.get(source.profile.xcolor_space.strip(), "")
        if not mode:
            return f"its colour profile is for {source.profile.xcolor_space.strip()}, not for pictures; read as sRGB"
        # The tables that Little CMS would prepare are too coarse for the dark tones of a grey curve (10 of 255 off).
        exact = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        made = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION | exact,
        )
        if mode != "CMYK" and _changes_nothing(mode, made):
            return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, SyntaxError) as error:
        return f"its colour profile is damaged ({' '.join(str(error).split())}); read as sRGB"
    return mode, made


def _changes_nothing(mode: str, transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform leaves a cube of colours (17 steps a side) as it is."""
    if mode == "L":
        ramp = np.arange(256, dtype=np.uint8)[None]
        colours = Image.fromarray(ramp)
        expected = np.repeat(ramp[..., None], 3, -1)
    else:
        steps = np.rint(np.linspace(0, 255, 17)).astype(np.uint8)
        expected = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(17 * 17, 17, 3)
        colours = Image.fromarray(expected)
    found = ImageCms.applyTransform(colours, transform)
    return found is not None and int(np.abs(np.asarray(found).astype(int) - expected.astype(int)).max()) <= SAME
