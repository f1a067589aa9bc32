"""Contexts of OpenGL on a graphics card without a display (EGL, by moderngl), or on Mesa's software driver.

A context is opened once and serves one surface after the other; after `LIFETIME` surfaces, or an error of the driver, the next
surface gets a new one. One thread at a time uses it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import threading
from collections.abc import Iterator
from typing import Any

from outcrop.schema.errors import InputError

LIBRARIES = {"libGL.so.1": "libgl1", "libEGL.so.1": "libegl1"}
"""Shared libraries that are loaded, and the Debian packages they come in."""
SOFTWARE_PACKAGES = "libegl-mesa0 libgl1-mesa-dri"
"""The Debian packages that draw on the processor."""
SOFTWARE = ("software", "llvmpipe", "lavapipe", "softpipe", "swrast", "swiftshader")
"""What drivers that draw on the processor call themselves."""
LIFETIME = 1000
"""Surfaces that a context serves: what a driver leaks is given back with it."""
_EXTENSIONS = 0x3055  # EGL_EXTENSIONS


class Lease:
    """An open context. It stays open until it is `spent` and nobody uses it any more."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.kept: dict[str, Any] = {}  # programs and targets, for the next surface
        self.lock = threading.RLock()
        self.users = self.served = 0
        self.broken = False

    @property
    def spent(self) -> bool:
        """Whether no further surface gets this context."""
        return self.broken or self.served >= LIFETIME

    @contextlib.contextmanager
    def current(self) -> Iterator[Any]:
        """The context, current in this thread alone."""
        with self.lock, self.context:
            yield self.context


_leases: dict[int, Lease] = {}
_opening = threading.Lock()


@contextlib.contextmanager
def leased(card: int = 0) -> Iterator[Lease]:
    """A context for one surface. Of several graphics cards it is that of number `card`, counted round and round.

    Raises:
        InputError: there is none on this machine; what to install.
    """
    with _opening:
        choice = _choice(card)
        lease = _leases.get(choice[0])
        if lease is None or lease.spent:
            lease = _leases[choice[0]] = _open(choice)
        lease.users += 1
        lease.served += 1
    try:
        yield lease
    finally:
        with _opening:
            lease.users -= 1
            if lease.spent and not lease.users:
                if _leases.get(choice[0]) is lease:
                    del _leases[choice[0]]
                lease.context.release()


def beside_torch() -> None:
    """Makes OpenGL safe to open in a process that may import Torch afterwards.

    Mesa's drivers lay their LLVM open to whatever is loaded later; Triton, which brings an LLVM of its own, then crashes. Loaded
    first, it keeps its own. Drawing processes never import Torch.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("triton")


def _choice(card: int) -> tuple[int, ...]:
    """The devices to try, in turn.

    Raises:
        InputError: there are none.
    """
    hardware, software = devices()
    turned = card % max(1, len(hardware))
    choice = (*hardware[turned:], *hardware[:turned], *software)
    if not choice:
        raise InputError(unavailable("EGL knows no device"))
    return choice


def _open(choice: tuple[int, ...]) -> Lease:
    moderngl = _import_moderngl()
    reasons = []
    for device in choice:
        try:
            context = moderngl.create_context(
                require=400,
                standalone=True,
                backend="egl",
                device_index=device,
                libgl="libGL.so.1",
                libegl="libEGL.so.1",
            )
        except Exception as error:  # noqa: BLE001  glcontext raises Exception itself
            reasons.append(f"device {device}: {' '.join(str(error).split())[:120]}")
            continue
        context.__exit__(None, None, None)  # opening made it current
        return Lease(context)
    raise InputError(unavailable("; ".join(reasons)))


@functools.cache
def devices() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of EGL's devices: graphics cards, and what draws in software.

    Raises:
        InputError: there is no EGL on this machine; what to install.
    """
    for library, package in LIBRARIES.items():
        try:
            egl = ctypes.CDLL(library)
        except OSError:
            raise InputError(unavailable(f"{library} of the package {package} is missing")) from None
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    listing, describing = (egl.eglGetProcAddress(name) for name in (b"eglQueryDevicesEXT", b"eglQueryDeviceStringEXT"))
    if not listing or not describing:
        raise InputError(unavailable("its libEGL cannot list devices"))
    count = ctypes.c_int()
    found = (ctypes.c_void_p * 64)()
    pointers = (ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))
    if not ctypes.CFUNCTYPE(ctypes.c_uint, *pointers)(listing)(len(found), found, ctypes.byref(count)):
        return (), ()
    extensions = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)(describing)
    kinds = [b"software" in (extensions(device, _EXTENSIONS) or b"") for device in found[: count.value]]
    hardware, software = (tuple(n for n, soft in enumerate(kinds) if soft is wanted) for wanted in (False, True))
    return hardware, software


def _import_moderngl() -> Any:
    try:
        import moderngl
    except ImportError:
        raise InputError(
            "the renderer egl needs moderngl, which is not installed; pip install moderngl, or use --renderer raycast"
        ) from None
    return moderngl


def unavailable(cause: str) -> str:
    """What to do where the renderer cannot be opened."""
    return (
        f"the renderer egl cannot be opened ({cause}); apt-get install {' '.join(LIBRARIES.values())} and the driver of the "
        f"graphics card with its OpenGL part, or {SOFTWARE_PACKAGES} to draw in software, or use --renderer raycast"
    )
