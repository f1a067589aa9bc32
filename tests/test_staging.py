"""Pixels on their way to a device: in every form, and in order where copies run beside the network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from outcrop.embed import staging
from outcrop.embed.encoder import Encoder
from outcrop.embed.models import find_model
from outcrop.embed.staging import CudaLane
from outcrop.schema.errors import InputError, PictureError


@pytest.fixture(scope="module")
def vit(tiny_vit: Path) -> Encoder:
    return Encoder.open(find_model("timm:test_vit", weights=tiny_vit, size=(64, 96)), device="cpu", batch=4)


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 96, 3), dtype=np.uint8)


def planes(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def forms(pixels: np.ndarray) -> dict[str, Any]:
    tensors = planes(pixels)
    return {
        "array": pixels,
        "tensor": tensors,
        "arrays": list(pixels),
        "tensors": list(tensors),
        "both": [row if n % 3 else tensors[n] for n, row in enumerate(pixels)],
    }


@pytest.mark.parametrize("form", list(forms(noise(1))))
def test_pixels_may_lie_on_the_device_already(vit: Encoder, form: str) -> None:
    pixels = noise(11)
    expected = vit.features(pixels)
    given = forms(pixels)[form]
    assert np.abs(vit.encode(given) - expected.vectors).max() < 1e-5
    found = vit.features(given)
    assert np.abs(found.patches - expected.patches).max() < 1e-4


def test_batches_are_submitted_and_fetched_in_order(vit: Encoder) -> None:
    batches = [noise(count, count) for count in (3, 9, 0, 1)]
    pending = [vit.submit(batch) for batch in batches]
    assert all(each.done for each in pending) and vit.in_flight == 1  # a CPU runs at once
    for each, batch in zip(pending, batches, strict=True):
        assert np.array_equal(each.result(), vit.encode(batch))
    dark = vit.submit([])
    assert dark.result().shape == (0, 64)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (torch.zeros(2, 64, 96, 3, dtype=torch.uint8), r"pixels are uint8 \[2, 64, 96, 3\].*uint8 \[N, 3, 64, 96\]"),
        (torch.zeros(2, 3, 64, 96), r"pixels are float32 \[2, 3, 64, 96\]"),
        (torch.zeros(2, 3, 64, 96, dtype=torch.uint8, device="meta"), "pixels lie on meta.*runs on cpu"),
        ([np.zeros((64, 96, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)], r"pixels are uint8 \[1, 64, 64, 3\]"),
    ],
)
def test_pixels_of_another_shape_type_or_place_are_refused(vit: Encoder, pixels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        vit.submit(pixels)


def test_a_vector_that_is_of_no_use_is_an_error_of_the_result(vit: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    network = vit._network
    monkeypatch.setattr(vit, "_network", lambda planes: network(planes) * (planes.amax(dim=(1, 2, 3))[:, None] > -0.9))
    pixels = noise(6)
    pixels[5] = 0
    pending = vit.submit(pixels)
    with pytest.raises(PictureError, match="row 5: "):
        pending.result()


# CUDA's streams, imitated: a copy happens when something waits for it, and not before


class Stream:
    """Copies that wait to be made."""

    current: Stream

    def __init__(self, device: object = None) -> None:
        self.copies: list[Callable[[], object]] = []
        self.waited: list[Event] = []

    def wait_event(self, event: Event) -> None:
        self.waited.append(event)
        event.synchronize()

    def wait_stream(self, other: Stream) -> None:
        Event().record(other)


class Event:
    """A point in a stream: all that was put there before has been done once it is waited for."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.upto = 0

    def record(self, stream: Stream) -> None:
        self.stream, self.upto = stream, len(stream.copies)

    def query(self) -> bool:
        return self.stream is None or not any(self.stream.copies[: self.upto])

    def synchronize(self) -> None:
        if self.stream is not None:
            for number in range(self.upto):
                self.stream.copies[number]()
                self.stream.copies[number] = lambda: None


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def use(stream: Stream) -> Iterator[None]:
        before, Stream.current = Stream.current, stream
        yield
        Stream.current = before

    Stream.current = Stream()
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", use)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream.current)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    monkeypatch.setattr(staging, "_pinned", lambda shape, dtype: torch.zeros(tuple(shape), dtype=dtype))
    copied = torch.inference_mode()(torch.Tensor.copy_)
    monkeypatch.setattr(staging, "_copy", lambda to, source: Stream.current.copies.append(lambda: copied(to, source)))


def test_copies_beside_the_network_arrive_before_they_are_read(
    streams: None, vit: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers are used again and again, by batches of all sizes and forms, with results fetched long after."""
    batches = [forms(noise(count, count))[form] for count in (4, 2, 9, 4) for form in forms(noise(1))]
    expected = [vit.encode(batch) for batch in batches]
    lane = CudaLane(torch.device("cpu"))
    monkeypatch.setattr(vit, "_lane", lane)
    pending = [vit.submit(batch) for batch in batches]
    for each, wanted in zip(pending, expected, strict=True):
        assert np.abs(each.result() - wanted).max() < 1e-5
    assert [len(slot.host) for slot in lane._slots] == [4, 4]  # pinned once
    for slot in lane._slots:  # never written while the network may read it
        assert slot.read in lane._copies.waited and slot.copied in lane._compute.waited  # type: ignore[attr-defined]
    lane.release()
    assert np.abs(vit.submit(batches[0]).result() - expected[0]).max() < 1e-5
