"""Imports Open3D late, and says which system libraries are missing where it cannot be imported."""

from __future__ import annotations

import warnings
from typing import Any

from outcrop.schema.errors import InputError

LIBRARIES = {
    "libEGL.so": "libegl1",
    "libGL.so": "libgl1",
    "libgomp.so": "libgomp1",
    "libidn2.so": "libidn2-0",
    "libudev.so": "libudev1",
    "libusb-1.0.so": "libusb-1.0-0",
    "libX11.so": "libx11-6",
}
"""Shared libraries that Open3D loads, and the Debian packages they come in."""


def import_open3d() -> Any:
    """The module `open3d`.

    Raises:
        InputError: it is not installed, or a system library that it loads is missing; which, and how to get it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports in turn
            import open3d
    except ImportError as error:
        raise InputError(missing(str(error))) from None
    return open3d


def missing(message: str) -> str:
    """What to do about an import error of Open3D, from its text."""
    for library, package in LIBRARIES.items():
        if library in message:
            all_of_them = " ".join(LIBRARIES.values())
            return f"Open3D needs {library} (of the package {package}), which is missing; apt-get install {all_of_them}"
    if "No module named 'open3d'" in message:
        return "drawing specimens needs Open3D, which is not installed; pip install open3d"
    return f"Open3D cannot be imported ({' '.join(message.split())[:200]}); pip install --force-reinstall open3d"
