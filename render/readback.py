"""Memory that a graphics card writes pictures into, for the processor to read.

It is made once and used again: what is new has to be pinned, and its pages made one by one. It has to be asked for as memory that
the card writes and the processor reads (GL_STREAM_READ), which moderngl does not offer: buffers as it makes them lie on the card
or in memory that no cache covers, where reading a picture takes longer than drawing it.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PIXEL_PACK_BUFFER, _STREAM_READ = 0x88EB, 0x88E1


class Readback:
    """Buffers of a context, each of `size` bytes, lent to one batch of views after the other."""

    def __init__(self, context: Any, size: int) -> None:
        self._context, self._size = context, size
        self._idle: list[Any] = []
        self._released = False

    def lend(self) -> Any:
        """A buffer that nothing else uses; `give_back` it."""
        if self._idle:
            return self._idle.pop()
        buffer = self._context.buffer(reserve=self._size, dynamic=True)
        bind, allocate = _functions()
        bind(_PIXEL_PACK_BUFFER, buffer.glo)
        allocate(_PIXEL_PACK_BUFFER, self._size, None, _STREAM_READ)
        bind(_PIXEL_PACK_BUFFER, 0)
        return buffer

    def give_back(self, buffer: Any) -> None:
        """Has it lent to others, or released where there will be none."""
        if self._released:
            buffer.release()
        else:
            self._idle.append(buffer)

    def release(self) -> None:
        """Gives the memory back; what is lent follows."""
        self._released = True
        for buffer in self._idle:
            buffer.release()
        self._idle.clear()


def taken(buffer: Any, height: int, width: int) -> NDArray[np.uint8]:
    """The first pixels of a buffer, [height, width, 4], in memory of our own."""
    return np.frombuffer(buffer.read(size=height * width * 4), np.uint8).reshape(height, width, 4)


@functools.cache
def _functions() -> tuple[Callable[..., None], Callable[..., None]]:
    """glBindBuffer and glBufferData."""
    library = ctypes.CDLL("libGL.so.1")
    bind, allocate = library.glBindBuffer, library.glBufferData
    bind.argtypes, bind.restype = (ctypes.c_uint, ctypes.c_uint), None
    allocate.argtypes = (ctypes.c_uint, ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_uint)
    allocate.restype = None
    return bind, allocate
