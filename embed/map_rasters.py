"""Maps that GDAL reads (GeoTIFF, VRT, JPEG 2000 …), through rasterio, which is an extra."""

from __future__ import annotations

import threading
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.colours import BACKGROUND
from outcrop.embed.georeference import Affine, Georeference
from outcrop.embed.maps import MapWindow, unreadable
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError

EXTREMES = (0.5, 99.5)
"""Percentiles of a map's own values that become black and white, where these are not bytes."""
LOOK = 1024
"""Cells along a side from which they are estimated."""


class Raster:
    """A raster with a place on the globe. Each thread has a handle of its own: GDAL's must not be shared."""

    remarks = ()

    def __init__(self, path: Path) -> None:
        """Opens it.

        Raises:
            InputError: rasterio is not installed, GDAL does not read the file, or it says not where it lies.
        """
        try:
            import rasterio
        except ImportError:
            raise InputError(f"{path}: maps need rasterio; install outcrop[maps], or give XYZ tiles") from None
        self.path = path
        self._open: Any = rasterio.open
        self._error: Any = rasterio.errors.RasterioError
        self._own = threading.local()
        self._handles: list[Any] = []
        self._lock = threading.Lock()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # an error says it
                handle = self._handle()
        except self._error as error:
            raise InputError(f"{path} is not a map that GDAL reads ({error}); give a GeoTIFF") from None
        if handle.crs is None or handle.transform.is_identity:
            raise InputError(f"{path} does not say where it lies {_way_out(handle)}")
        self.width, self.height = int(handle.width), int(handle.height)
        transform: Affine = tuple(float(value) for value in handle.transform[:6])  # type: ignore[assignment]  # six of them
        stored = Georeference(transform, str(handle.crs.to_string()))
        # Rows from the south make a mirror image, which no photograph resembles: they are read from the last to the first.
        self._mirrored = stored.mirrored(self.width, self.height)
        self.place = stored.upside_down(self.height) if self._mirrored else stored
        self._bands = _bands(handle)
        self._masked = any(flag.name != "all_valid" for flags in handle.mask_flag_enums for flag in flags)
        self._alpha = _shadowed_alpha(handle)
        self._floats = any(np.dtype(handle.dtypes[band - 1]).kind == "f" for band in self._bands)
        self._palette = _palette(handle)
        self._white, self._inverted = _white(handle)

    @property
    def files(self) -> str:
        """See `outcrop.embed.maps.Map.files`: of a VRT, which has its pixels in other files."""
        handle = self._handle()
        if handle.driver != "VRT":
            return ""
        states = [(name, stat.st_size, stat.st_mtime_ns) for name in handle.files if (stat := Path(name).stat())]
        return digest_of(repr(sorted(states)))

    def read(self, window: MapWindow, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """See `outcrop.embed.maps.Map.read`."""
        shown, mask = self._values(window, size, self._bands)
        if self._palette is not None:
            colours = self._palette[shown[0]]
            pixels, mask = colours[..., :3], mask & (colours[..., 3] > 0)
        else:
            pixels = self._shades(np.moveaxis(shown, 0, -1))
        if pixels.shape[-1] == 1:
            pixels = np.repeat(pixels, 3, axis=-1)
        return np.ascontiguousarray(np.where(mask[..., None], pixels, np.array(BACKGROUND, np.uint8))), mask

    def heights(self, window: MapWindow) -> NDArray[np.float64]:
        """The first band of a window as it is stored, [h, w]; NaN where there is nothing.

        Raises:
            PictureError: it cannot be read.
        """
        values, mask = self._values(window, (window.width, window.height), [1])
        return np.where(mask, values[0].astype(np.float64), np.nan)

    @property
    def scaling(self) -> tuple[float, float, str]:
        """By what the first band's numbers are multiplied, what is then added, and the unit of that ('' unless stated)."""
        handle = self._handle()
        return float(handle.scales[0]), float(handle.offsets[0]), str(handle.units[0] or "")

    def coverage(self, cells: tuple[int, int]) -> NDArray[np.bool_]:
        """See `outcrop.embed.maps.Map.coverage`."""
        if not (self._masked or self._floats):
            return np.ones((cells[1], cells[0]), bool)
        whole = MapWindow(0, 0, self.width, self.height)
        if self._floats:
            return self._values(whole, cells, self._bands)[1]
        try:
            return np.asarray(self._mask(self._handle(), whole, cells))
        except self._error as error:
            raise unreadable(self.path, error) from None

    def close(self) -> None:
        """See `outcrop.embed.maps.Map.close`."""
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()
        self._own = threading.local()

    def _values(
        self, window: MapWindow, size: tuple[int, int], bands: list[int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The bands [B, h, w] of a window at a size (width, height), and where it shows anything [h, w]."""
        from rasterio.enums import Resampling

        smaller = size[0] < window.width or size[1] < window.height
        resampling = Resampling.average if smaller else Resampling.bilinear
        if self._palette is not None:
            resampling = Resampling.nearest
        shape = len(bands), size[1], size[0]
        try:
            handle = self._handle()
            found = handle.read(bands, window=self._part(window), out_shape=shape, resampling=resampling)
            mask = self._mask(handle, window, size)
        except self._error as error:
            raise unreadable(self.path, error) from None
        found = found[:, ::-1] if self._mirrored else found
        return found, mask & np.isfinite(found).all(axis=0) if self._floats else mask

    def _mask(self, handle: Any, window: MapWindow, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Where a window says that it shows anything [h, w], at a size (width, height)."""
        part, shape = self._part(window), (size[1], size[0])
        if not self._masked:
            return np.ones(shape, bool)
        if self._alpha:
            colours = handle.read(self._bands, window=part, out_shape=(len(self._bands), *shape))
            there = (colours != handle.nodata).any(axis=0) & (
                handle.read(self._alpha, window=part, out_shape=shape) > 0
            )
        else:
            there = handle.dataset_mask(window=part, out_shape=shape) > 0
        return np.asarray(there[::-1] if self._mirrored else there)

    def _part(self, window: MapWindow) -> Any:
        """The same window as the file's rows go."""
        from rasterio.windows import Window

        top = self.height - window.top - window.height if self._mirrored else window.top
        return Window(window.left, top, window.width, window.height)

    def _shades(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Values as bytes from black to white."""
        if values.dtype != np.uint8:
            pixels = self._stretched(values)
        else:
            pixels = values if self._white == 255 else np.asarray(values * (255 / self._white), np.uint8)
        return 255 - pixels if self._inverted else pixels

    def _stretched(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        low, high = self._range
        with np.errstate(invalid="ignore"):
            scaled = (values.astype(np.float32) - low) * np.float32(255 / (high - low))
        return np.asarray(np.clip(np.nan_to_num(scaled), 0, 255), np.uint8)

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The values that become black and white: the same for every window, by a look at the whole map."""
        size = min(LOOK, self.width), min(LOOK, self.height)
        values, mask = self._values(MapWindow(0, 0, self.width, self.height), size, self._bands)
        shown = values[:, mask].astype(np.float64)
        shown = shown[np.isfinite(shown)]
        low, high = np.percentile(shown, EXTREMES) if shown.size else (0.0, 1.0)
        return float(low), float(high if high > low else low + 1.0)

    def _handle(self) -> Any:
        handle = getattr(self._own, "handle", None)
        if handle is None:
            handle = self._own.handle = self._open(self.path)
            with self._lock:
                self._handles.append(handle)
        return handle


def _bands(handle: Any) -> list[int]:
    """The numbers of the bands that are shown: red, green and blue where the file names them, else the first three, or one."""
    names = [interpretation.name for interpretation in handle.colorinterp]
    if {"red", "green", "blue"} <= set(names):
        return [names.index(colour) + 1 for colour in ("red", "green", "blue")]
    colours = [number for number, name in enumerate(names, 1) if name != "alpha"]
    return colours[:3] if len(colours) >= 3 else colours[:1]


def _palette(handle: Any) -> NDArray[np.uint8] | None:
    """The colours [N, 4] of a map that stores their numbers, and how opaque they are; None where it stores colours."""
    if handle.colorinterp[0].name != "palette":
        return None
    table = np.zeros((256 if handle.dtypes[0] == "uint8" else 65536, 4), np.uint8)
    for number, colour in handle.colormap(1).items():
        table[number] = colour
    return table


def _white(handle: Any) -> tuple[int, bool]:
    """The largest value of a map of bytes, of which some use fewer bits; and whether it is black, not white."""
    bits = int(handle.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
    return 2 ** min(bits, 8) - 1, handle.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"


def _shadowed_alpha(handle: Any) -> int:
    """The number of the alpha band that GDAL does not ask, since the map has a value for nothing as well; 0 where it asks it."""
    names = [interpretation.name for interpretation in handle.colorinterp]
    return names.index("alpha") + 1 if "alpha" in names and handle.nodata is not None else 0


def _way_out(handle: Any) -> str:
    """Why a raster has no place, and what to do."""
    if handle.gcps[0] or handle.rpcs is not None:
        return "but for ground control points or a camera's model; warp it: `gdalwarp -t_srs EPSG:… IN.tif OUT.tif`"
    return "(no coordinate system, or no transform); assign one: `gdal_translate -a_srs EPSG:… -a_ullr …`"
