"""JPEG files to pixels on a device, a batch at a time, by whichever library is there: torchcodec, or torchvision before it.

On a CUDA device both use nvJPEG; on the CPU (for tests) libjpeg. A file that the decoder cannot take fails the whole batch, so a
batch that failed is halved until the file is found.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.embed.jpeg import hide_exif

if TYPE_CHECKING:
    import torch

    Batch = Callable[[list[torch.Tensor]], list[torch.Tensor]]

_log = logging.getLogger(__name__)

_RGB = 3
"""torchvision's number of the mode that gives three colours whatever the file holds."""


@dataclass(frozen=True)
class JpegDecoder:
    """A library that decodes JPEGs on a device: `library` with its version, torch's name of the `device`, and the call."""

    library: str
    device: str
    batch: Batch

    def staged(self, data: bytes) -> torch.Tensor:
        """The bytes of a file where the device takes them from fastest. Keep it until what was begun with it has ended."""
        return _tensor(data, self.device.startswith("cuda"))

    def decode(self, files: Sequence[bytes | torch.Tensor]) -> list[torch.Tensor | None]:
        """The pixels of files, or of what was `staged`: uint8 [3, H, W] on the device, as they are stored (not turned); None for
        one that failed.

        Raises:
            RuntimeError: the device has too little memory for one picture.
        """
        from outcrop.embed.devices import out_of_memory

        tensors = [_tensor(data) if isinstance(data, bytes) else data for data in files]
        found: list[torch.Tensor | None] = []
        parts = [tensors] if tensors else []
        while parts:
            part = parts.pop()
            try:
                found += self.batch(part)
            except (RuntimeError, ValueError) as error:
                if len(part) > 1:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                    continue
                if isinstance(error, RuntimeError) and out_of_memory(error):
                    raise
                _log.debug("%s cannot decode a file: %s", self.library, str(error).splitlines()[:1])
                found.append(None)
        return found

    def refusal(self, data: bytes) -> str:
        """Why a file cannot be decoded, in the library's words; '' where it can."""
        try:
            self.batch([_tensor(data)])
        except (RuntimeError, ValueError) as error:
            return (str(error) or type(error).__name__).splitlines()[0]
        return ""

    def describe(self) -> str:
        """In a few words: ``torchcodec 0.17.0 on cuda:0``."""
        return f"{self.library} on {self.device}"


def find_decoder(device: str) -> JpegDecoder | str:
    """The decoder for a device (``cuda``, ``cuda:N``, ``cpu``), or why there is none."""
    missing = []
    for name, opener in (("torchcodec", _torchcodec), ("torchvision", _torchvision)):
        try:
            return JpegDecoder(f"{name} {importlib.metadata.version(name)}", device, opener(device))
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            missing.append(f"{name}: {(str(error) or type(error).__name__).splitlines()[0]}")
    return "; ".join(missing)


def _tensor(data: bytes, pinned: bool = False) -> torch.Tensor:
    """A file as libraries take it, in a copy that torch may write to; torchcodec would turn the picture by its EXIF."""
    import torch

    tensor = torch.empty(len(data), dtype=torch.uint8, pin_memory=pinned)
    host = tensor.numpy()
    host[:] = np.frombuffer(data, np.uint8)  # numpy lets other threads go on meanwhile; Python's own copies do not
    hide_exif(host.data)
    return tensor


def _torchcodec(device: str) -> Batch:
    codec: Any = importlib.import_module("torchcodec.decoders")
    decode = codec.decode_jpeg

    def batch(files: list[torch.Tensor]) -> list[torch.Tensor]:
        made: list[torch.Tensor] = decode(files, mode="RGB", device=device)
        return made

    return batch


def _torchvision(device: str) -> Batch:
    # Its Python function warns at every call that torchcodec succeeds it.
    import torch

    importlib.import_module("torchvision.io")
    operators: Any = torch.ops.image
    if device.startswith("cuda"):
        several, chosen = operators.decode_jpegs_cuda, torch.device(device)
        return lambda files: list(several(files, _RGB, chosen))
    one = operators.decode_jpeg
    return lambda files: [one(data, _RGB, False) for data in files]
