"""Ingests that decode on the encoder's device, beside the threads of the CPU: the same rows, whoever decoded."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pictures import picture
from PIL import Image
from waiting import LONG

from outcrop.embed import decoding
from outcrop.embed.decoding import JpegDecoder
from outcrop.embed.encoder import Encoder
from outcrop.embed.images import Decoded
from outcrop.embed.models import find_model
from outcrop.embed.resident import Resident, Undecoded, undecoded
from outcrop.embed.sharded import _on_host
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest import on_device
from outcrop.ingest.listing import ingest_listing
from outcrop.ingest.on_device import Job, OnDevice, _Room
from outcrop.ingest.photos import PhotoSource
from outcrop.ingest.pipeline import Options, Pipeline
from outcrop.ingest.references import list_references
from outcrop.ingest.runs import Record, Run
from outcrop.ingest.sources import Listing
from outcrop.schema.crops import crop_specs, parse_angles, parse_crops
from outcrop.schema.item import Item, Kind, image_key
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

CAPTURE = "250918092555_300"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lite() -> Encoder:
    return Encoder.open(find_model("efficientnet_lite0"), device="cpu")


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def files() -> dict[str, bytes]:
    """Photographs that a device takes, and all kinds that it does not."""
    turned = Image.Exif()
    turned[274] = 6
    png = io.BytesIO()
    picture(20).save(png, "PNG")
    plain = {f"plain{n}.jpg": jpeg(picture(n, 400 + 8 * n, 300)) for n in range(6)}
    return plain | {
        "turned.jpg": jpeg(picture(10, 500, 333), exif=turned),
        "grey.jpg": jpeg(picture(11).convert("L")),
        "large.jpg": jpeg(picture(12, 1600, 1200), subsampling="4:2:2"),
        "progressive.jpg": jpeg(picture(13), progressive=True),
        "cmyk.jpg": jpeg(picture(14).convert("CMYK")),
        "other.jpg": png.getvalue(),
        "cut.jpg": jpeg(picture(15))[:-300],
        "empty.jpg": b"",
        "tiny.jpg": jpeg(picture(16, 6, 6)),
        "text.jpg": b"not a picture",
    }


def photographs(folder: Path, contents: dict[str, bytes]) -> Listing:
    folder.mkdir()
    sources = []
    for number, (name, data) in enumerate(contents.items()):
        (folder / name).write_bytes(data)
        item = Item(image_key("d", CAPTURE, number), Kind.IMAGE, "d", CAPTURE, frame=number, source=name)
        sources.append(PhotoSource(item, folder / name))
    return Listing("d", sources)


class Ingested:
    """What one pass wrote."""

    def __init__(self, place: Path, listing: Listing, encoder: Encoder, said: list[str] | None = None, **options: Any):
        place.mkdir()
        store_of_thumbnails = ThumbnailStore.below(place)
        with Store.connect(str(place / "c.db")) as store:
            collection = Collection.create(store, "c", encoder.space)
            run = Run.begin(place, "dataset")
            self.record: Record = ingest_listing(
                listing,
                encoder,
                collection,
                run,
                Options(**{"workers": 2, "batch": 4, **options}),
                thumbnails=store_of_thumbnails,
                waiting=None if said is None else said.append,
            )
            ids = [wanted.item.id for source in listing.sources for wanted in source.wanted]
            self.rows = _rows(collection, ids)
        self.thumbnails = {id: store_of_thumbnails.read(id) for id in ids}
        ledger = run.ledger
        self.failures = sorted(ledger.read_text().splitlines()) if ledger.exists() else []


def _rows(collection: Collection, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    found = collection.lookup(ids, ["*"])
    return {id: {name: value for name, value in row.items() if name != "ingested_at"} for id, row in found.items()}


def cosine(one: dict[str, Any], other: dict[str, Any]) -> float:
    vectors = [np.asarray(row["vector"], np.float64) for row in (one, other)]
    return float(vectors[0] @ vectors[1])


def same(one: Ingested, other: Ingested, least: float = 0.9999) -> None:
    made = ("vector", "checksum")  # the checksum is made of the vector too
    assert one.rows.keys() == other.rows.keys()
    for id, row in one.rows.items():
        for name in row.keys() - made:
            assert row[name] == other.rows[id][name], name
        assert cosine(row, other.rows[id]) > least
    assert one.failures == other.failures


def alike(one: Ingested, other: Ingested) -> None:
    """Thumbnails of both are of the same size and show the same."""
    for id, packed in one.thumbnails.items():
        assert (packed is None) == (other.thumbnails[id] is None)
        if packed is not None:
            shown = [
                np.asarray(Image.open(io.BytesIO(each or b"")).convert("RGB"))
                for each in (packed, other.thumbnails[id])
            ]
            assert shown[0].shape == shown[1].shape
            assert np.abs(shown[0].astype(int) - shown[1]).mean() < 0.5


def test_rows_thumbnails_and_failures_are_those_of_the_cpu(tmp_path: Path, lite: Encoder) -> None:
    contents = files()
    large = contents.pop("large.jpg")
    listing = photographs(tmp_path / "photos", contents)
    device = Ingested(tmp_path / "device", listing, lite, decode="device")
    cpu = Ingested(tmp_path / "cpu", listing, lite, decode="cpu")
    assert device.record.upserted == cpu.record.upserted == 11
    assert device.record.failed == 4
    same(device, cpu)
    alike(device, cpu)
    assert device.record.decoder.startswith("JPEGs are decoded by torch") and "on cpu" in device.record.decoder
    assert cpu.record.decoder == ""
    alone = photographs(tmp_path / "large", {"large.jpg": large})
    one, other = (Ingested(tmp_path / f"large-{d}", alone, lite, decode=d) for d in ("device", "cpu"))
    same(one, other, 0.99)  # its halves are rounded where libjpeg rounds a quarter of the pixels


def test_the_device_takes_what_it_can(tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only are the rows the same: photographs did go through it."""
    decoded = watched(monkeypatch)
    Ingested(tmp_path / "state", photographs(tmp_path / "photos", files()), lite, decode="device")
    taken = {(width, height) for width, height in decoded}
    assert (500, 333) in taken and len(decoded) >= 8
    assert (6, 6) not in taken


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The sizes of everything that goes through the decoder from now on."""
    decoded: list[tuple[int, int]] = []
    found = decoding.find_decoder("cpu")
    assert isinstance(found, JpegDecoder)

    def batch(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        made = found.batch(tensors)
        decoded.extend((one.shape[2], one.shape[1]) for one in made)
        return made

    monkeypatch.setattr(decoding, "find_decoder", lambda device: JpegDecoder("a library", device, batch))
    return decoded


def test_a_cpu_is_no_device_unless_it_is_asked_for(
    tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = watched(monkeypatch)
    done = Ingested(tmp_path / "state", photographs(tmp_path / "photos", files()), lite)
    assert done.record.upserted == 12 and done.record.decoder == ""
    assert decoded == []


def test_references_are_cut_on_the_device(tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    from pictures import write_dataset

    registry = write_dataset(tmp_path, {CAPTURE: 2})
    wanted = crop_specs(parse_angles("0:360:90"), parse_crops("1,0.6"))
    listing = list_references(registry, "jamshill_image", tmp_path, wanted)
    cpu = Ingested(tmp_path / "cpu", listing, lite, decode="cpu")
    decoded = watched(monkeypatch)
    device = Ingested(tmp_path / "device", listing, lite, decode="device")
    assert device.record.upserted == 16 and len(decoded) >= 2
    same(device, cpu)
    alike(device, cpu)


def spoilt(change: Any) -> Any:
    """A decoder whose pixels are changed."""
    found = decoding.find_decoder("cpu")
    assert isinstance(found, JpegDecoder)
    return lambda device: JpegDecoder("a library 1", device, lambda data: [change(one) for one in found.batch(data)])


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: pixels.flip(0),  # blue for red
        lambda pixels: pixels.roll(8, 1),
        lambda pixels: pixels[:, :-1],
    ],
)
def test_a_wrong_decoder_is_not_trusted(
    tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    listing = photographs(tmp_path / "photos", {f"{n}.jpg": jpeg(picture(n, 300, 200)) for n in range(4)})
    cpu = Ingested(tmp_path / "cpu", listing, lite, decode="cpu")
    monkeypatch.setattr(decoding, "find_decoder", spoilt(change))
    said: list[str] = []
    device = Ingested(tmp_path / "device", listing, lite, said, decode="device")
    same(device, cpu, 0.9999999)
    assert "JPEGs are decoded on the CPU: a library 1 on cpu " in device.record.decoder
    assert said == [device.record.decoder]


def test_a_machine_without_a_decoder_says_so(tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "find_decoder", lambda device: "torchvision: not installed")
    said: list[str] = []
    listing = photographs(tmp_path / "photos", {"0.jpg": jpeg(picture(0))})
    assert Ingested(tmp_path / "device", listing, lite, said, decode="device").record.upserted == 1
    assert said == ["JPEGs are decoded on the CPU: no decoder for cpu (torchvision: not installed)"]


def test_what_the_decoder_fails_at_later_is_decoded_on_the_cpu(
    tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = decoding.find_decoder("cpu")
    assert isinstance(found, JpegDecoder)
    failed = []

    def batch(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        made = found.batch(tensors)
        if any(one.shape[1] == 222 for one in made):
            failed.append(len(made))
            raise RuntimeError("nvJPEG failed")
        return made

    monkeypatch.setattr(decoding, "find_decoder", lambda device: JpegDecoder("a library", device, batch))
    contents = {f"{n}.jpg": jpeg(picture(n, 300, 222 if n in (2, 4) else 200)) for n in range(6)}
    listing = photographs(tmp_path / "photos", contents)
    device = Ingested(tmp_path / "device", listing, lite, decode="device")
    assert failed and device.record.upserted == 6
    same(device, Ingested(tmp_path / "cpu", listing, lite, decode="cpu"))


def test_too_little_memory_is_no_failure(tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    found = decoding.find_decoder("cpu")
    assert isinstance(found, JpegDecoder)
    asked = []

    def batch(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        asked.append(len(tensors))
        if len(asked) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found.batch(tensors)

    monkeypatch.setattr(decoding, "find_decoder", lambda device: JpegDecoder("a library", device, batch))
    listing = photographs(tmp_path / "photos", {f"{n}.jpg": jpeg(picture(n)) for n in range(5)})
    device = Ingested(tmp_path / "device", listing, lite, decode="device")
    assert device.record.upserted == 5 and len(asked) > 1


def test_another_error_of_the_device_ends_the_run(
    tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost(Exception):
        pass

    def made_of(self: PhotoSource, picture: Decoded | Resident, *rest: Any) -> Iterator[Any]:
        raise Lost("illegal memory access")
        yield

    listing = photographs(tmp_path / "photos", {f"{n}.jpg": jpeg(picture(n)) for n in range(5)})
    monkeypatch.setattr(PhotoSource, "made_of", made_of)
    with pytest.raises(Lost):
        Ingested(tmp_path / "device", listing, lite, decode="device")


def test_a_stopped_pass_leaves_the_rest_for_the_next(
    tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipelines: list[Pipeline] = []
    found = decoding.find_decoder("cpu")
    assert isinstance(found, JpegDecoder)
    calls = []

    def batch(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        calls.append(len(tensors))
        if len(calls) == 2:
            pipelines[0].stop()
        return found.batch(tensors)

    monkeypatch.setattr(decoding, "find_decoder", lambda device: JpegDecoder("a library", device, batch))
    listing = photographs(tmp_path / "photos", {f"{n}.jpg": jpeg(picture(n)) for n in range(30)})
    (tmp_path / "state").mkdir()
    with Store.connect(str(tmp_path / "state" / "c.db")) as store:
        collection = Collection.create(store, "c", lite.space)
        run = Run.begin(tmp_path / "state", "dataset")
        record = ingest_listing(
            listing, lite, collection, run, Options(workers=2, decode="device"), on_start=pipelines.append
        )
        assert record.state == "interrupted" and record.failed == 0
        assert record.upserted == collection.count() < 30
        monkeypatch.undo()
        again = ingest_listing(listing, lite, collection, Run.begin(tmp_path / "state", "dataset"), Options(workers=2))
        assert (again.state, collection.count()) == ("done", 30)
        assert again.unchanged == record.upserted


# The bound


def job(pixels: int) -> Job:
    file = undecoded(jpeg(picture(0)), name="a", at_least=None)
    assert isinstance(file, Undecoded)
    return Job(file, pixels, lambda picture: iter(()), lambda: iter(()), lambda outcomes: None)


def test_what_is_in_hand_is_bounded_by_its_pixels() -> None:
    room = _Room()
    room.most = 100
    first, second, third = job(60), job(40), job(1)
    assert room.offer(first) and room.offer(second)
    assert not room.offer(third)
    assert room.take(70, lambda: False) == [first], "the next would be more than is asked for"
    assert not room.offer(third), "what is taken counts until it is done"
    room.done(first)
    assert room.offer(third)
    assert room.take(1, lambda: False) == [second], "one at least"
    assert room.take(100, lambda: False) == [third]
    room.close()
    assert not room.offer(job(1))
    assert room.take(1, lambda: False) == []


def test_a_pass_stays_below_the_bound(tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many photographs there are, and however slow the device."""
    most = 4 * (320 * 240 + 224 * 224)
    in_hand: list[int] = []
    offer, find = _Room.offer, on_device.find_reader

    def offered(self: _Room, one: Job) -> bool:
        self.most = most
        taken = offer(self, one)
        in_hand.append(self._pixels)
        return taken

    monkeypatch.setattr(_Room, "offer", offered)
    monkeypatch.setattr(on_device, "find_reader", lambda device, megapixels: find(device, 1))
    listing = photographs(tmp_path / "photos", {f"{n}.jpg": jpeg(picture(n)) for n in range(20)})
    device = Ingested(tmp_path / "device", listing, lite, decode="device")
    assert device.record.upserted == 20
    assert 0 < max(in_hand) <= most


def test_threads_that_come_while_it_is_tried_decode_themselves(lite: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    from outcrop.ingest.stages import Stages

    inside, go_on = threading.Event(), threading.Event()

    def slow(device: str, megapixels: int) -> str:
        inside.set()
        assert go_on.wait(LONG)
        return "none"

    monkeypatch.setattr(on_device, "find_reader", slow)
    encoder: Any = SimpleNamespace(device="cuda:0", is_open=True, space=lite.space)
    device = OnDevice(encoder, Stages(), 100, False, lambda text, wrong: None)
    file = undecoded(jpeg(picture(0)), name="a", at_least=None)
    assert isinstance(file, Undecoded)
    first = threading.Thread(target=device._settle, args=(file,))
    first.start()
    assert inside.wait(LONG)
    device._settle(file)  # does not wait
    assert not device._settled
    go_on.set()
    first.join(LONG)
    assert device._settled


class Several:
    """An encoder as one over several devices is: it says so, and takes arrays only from the host."""

    def __init__(self, encoder: Encoder, device: str) -> None:
        self._encoder, self.device = encoder, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def submit(self, pixels: Any) -> Any:
        return self._encoder.submit(_on_host(pixels))


def test_each_of_several_devices_decodes(tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: dict[str, int] = {}
    decode, find = JpegDecoder.decode, on_device.find_reader

    def counted(self: JpegDecoder, files: Any) -> Any:
        decoded[self.device] = decoded.get(self.device, 0) + 1
        return decode(self, files)

    monkeypatch.setattr(JpegDecoder, "decode", counted)
    # Several batches, however late the devices come to take them: all that waits would be one.
    monkeypatch.setattr(on_device, "find_reader", lambda device, megapixels: find(device, 1))
    contents = files()
    del contents["large.jpg"]  # as above
    listing = photographs(tmp_path / "photos", contents)
    several: Any = Several(lite, "cpu,cpu:0,cpu")
    device = Ingested(tmp_path / "device", listing, several, decode="device")
    assert set(decoded) == {"cpu", "cpu:0"} and all(count > 1 for count in decoded.values())  # more than tried
    cpu = Ingested(tmp_path / "cpu", listing, lite, decode="cpu")
    same(device, cpu)
    alike(device, cpu)


def test_a_device_without_a_decoder_leaves_it_to_the_others(
    tmp_path: Path, lite: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, decode, used = on_device.find_reader, JpegDecoder.decode, set[str]()

    def found(device: str, megapixels: int) -> Any:
        return "no driver" if device == "cpu:0" else find(device, megapixels)

    def noted(self: JpegDecoder, files: Any) -> Any:
        used.add(self.device)
        return decode(self, files)

    monkeypatch.setattr(on_device, "find_reader", found)
    monkeypatch.setattr(JpegDecoder, "decode", noted)
    listing = photographs(tmp_path / "photos", {f"{n}.jpg": jpeg(picture(n)) for n in range(6)})
    several: Any = Several(lite, "cpu:0,cpu")
    said: list[str] = []
    device = Ingested(tmp_path / "device", listing, several, said, decode="device")
    assert device.record.upserted == 6 and used == {"cpu"}
    assert said == [device.record.decoder]
    assert "on cpu and on the CPU" in said[0] and said[0].endswith("; no decoder for cpu:0 (no driver)")


def test_a_cpu_among_cards_does_not_decode(lite: Encoder) -> None:
    from outcrop.ingest.stages import Stages

    for device, expected in (("cuda:0,cuda:1", ["cuda:0", "cuda:1"]), ("cuda:1,cpu", ["cuda:1"]), ("cpu,cpu", [])):
        several: Any = Several(lite, device)
        assert OnDevice(several, Stages(), 100, False, lambda text, wrong: None)._devices() == expected


def test_the_command_says_where_photographs_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from commands import run
    from pictures import write_dataset

    registry = write_dataset(tmp_path, {CAPTURE: 2})
    monkeypatch.setenv("OUTCROP_DECODE", "device")
    place = ("--registry", registry, "--model", "efficientnet_lite0", "--uri", tmp_path / "c.db")
    outcome = run("ingest", "dataset", "jamshill_image", *place)
    assert "JPEGs are decoded by torch" in outcome.err
