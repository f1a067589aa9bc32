"""Raw photographs and HEIC, each through a library of its own that is an extra; without it they are refused by name."""

from __future__ import annotations

import io
import threading
from typing import Any

import numpy as np
from PIL import Image

from outcrop.schema.errors import PictureError

_registering = threading.Lock()


class RawPhotograph:
    """The sensor's data of a raw photograph, developed by LibRaw with the camera's white balance.

    Raises `PictureError` where rawpy is not installed or LibRaw cannot read it.
    """

    def __init__(self, data: bytes, name: str, kind: str) -> None:
        try:
            import rawpy
        except ImportError:
            raise PictureError(
                f"{name}: is a raw photograph ({kind}); install outcrop[raw] to read it, or export it as JPEG or TIFF"
            ) from None
        self._name, self._kind = name, kind
        try:
            self._raw: Any = rawpy.imread(io.BytesIO(data))
            sizes = self._raw.sizes
        except Exception as error:
            raise self._unreadable(error) from error
        turned = sizes.flip in (5, 6)
        self.size: tuple[int, int] = (sizes.iheight, sizes.iwidth) if turned else (sizes.iwidth, sizes.iheight)

    def read(self, smallest: tuple[int, int] | None) -> Image.Image:
        """The upright picture as 8-bit sRGB; at half its size where that is still `smallest` (width, height) and more."""
        half = smallest is not None and all(side // 2 >= least for side, least in zip(self.size, smallest, strict=True))
        try:
            pixels = self._raw.postprocess(use_camera_wb=True, output_bps=8, half_size=half)
        except MemoryError:
            raise
        except Exception as error:
            raise self._unreadable(error) from error
        return Image.fromarray(np.ascontiguousarray(pixels, np.uint8))

    def close(self) -> None:
        """Frees LibRaw's memory."""
        self._raw.close()

    def _unreadable(self, error: Exception) -> PictureError:
        said = " ".join(
            (error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)).split()
        )
        return PictureError(
            f"{self._name}: is a raw photograph ({self._kind}) that LibRaw cannot read ({said or type(error).__name__}); "
            f"export it as JPEG or TIFF"
        )


def register_heif(name: str) -> None:
    """Lets Pillow open HEIC. Raises `PictureError` where pillow-heif is not installed."""
    with _registering:
        if "HEIF" in Image.OPEN:
            return
        try:
            import pillow_heif
        except ImportError:
            raise PictureError(
                f"{name}: is a HEIC photograph; install outcrop[heif] to read it, or export it as JPEG"
            ) from None
        pillow_heif.register_heif_opener(thumbnails=False)
