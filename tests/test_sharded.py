"""One model on several devices: batches dealt out, put together again in order, and ended cleanly."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from commands import run, start
from pictures import write_dataset

from outcrop.embed.encoder import Encoder
from outcrop.embed.models import find_model
from outcrop.embed.sharded import ShardedEncoder, _Open, device_names, encoding
from outcrop.embed.weights import load_state
from outcrop.schema.digests import digest_of_file
from outcrop.schema.errors import InputError, PictureError, WeightsError

MODEL = "timm:test_vit"


@pytest.fixture(scope="module")
def sharded(tiny_vit: Path) -> Iterator[ShardedEncoder]:
    encoder = ShardedEncoder.open(find_model(MODEL, weights=tiny_vit, size=(64, 96)), devices=["cpu", "cpu"], threads=1)
    yield encoder
    encoder.close()


@pytest.fixture(scope="module")
def single(tiny_vit: Path) -> Encoder:
    return Encoder.open(find_model(MODEL, weights=tiny_vit, size=(64, 96)), device="cpu")


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 96, 3), dtype=np.uint8)


def test_vectors_are_those_of_one_device_in_the_same_order(sharded: ShardedEncoder, single: Encoder) -> None:
    assert sharded.space == single.space
    assert sharded.describe() == f"{MODEL}.r160_in1k 64x96 crop on cpu,cpu (fp32)"
    for count in (0, 1, 2, 7, 40, 3):
        pixels = noise(count)
        found, expected = sharded.encode(pixels), single.encode(pixels)
        assert found.shape == expected.shape == (count, 64) and found.dtype == np.float32
        assert np.abs(found - expected).max(initial=0) < 1e-5


def test_pictures_come_from_the_host_and_from_devices(sharded: ShardedEncoder, single: Encoder) -> None:
    pixels = noise(6)
    planes = [torch.from_numpy(one).permute(2, 0, 1) for one in pixels]
    expected = single.encode(pixels)
    mixed = [planes[0], pixels[1], pixels[2], planes[3], planes[4], pixels[5]]
    for rows in (mixed, planes, torch.stack(planes), list(pixels)):
        assert np.abs(sharded.encode(rows) - expected).max() < 1e-5


def test_features_come_back_too(sharded: ShardedEncoder, single: Encoder) -> None:
    pixels = noise(5)
    found, expected = sharded.features(pixels), single.features(pixels)
    assert found.patches.shape == (5, 4, 6, 64)
    assert np.abs(found.patches - expected.patches).max() < 1e-4
    assert np.abs(found.vectors - expected.vectors).max() < 1e-5


def test_pixels_of_another_shape_are_refused(sharded: ShardedEncoder) -> None:
    with pytest.raises(InputError, match=r"pixels are uint8 \[1, 64, 64, 3\]"):
        sharded.encode(np.zeros((1, 64, 64, 3), np.uint8))
    assert sharded.encode(noise(2)).shape == (2, 64)


def test_errors_of_opening_are_those_of_one_encoder(tiny_vit: Path) -> None:
    before = set(psutil.Process().children())
    with pytest.raises(InputError, match="device cuda:77: "):
        ShardedEncoder.open(find_model(MODEL, weights=tiny_vit), devices=["cuda:77"])
    with pytest.raises(WeightsError, match=r"absent\.pth: no such file"):
        ShardedEncoder.open(find_model(MODEL, weights=tiny_vit.parent / "absent.pth"), devices=["cpu", "cpu"])
    assert set(psutil.Process().children()) <= before  # of other tests, some may have ended since


def test_failures_are_named_and_close_ends_everything(tiny_vit: Path, tmp_path: Path) -> None:
    """With a network that makes nothing of anything (every vector is zero); then a process is killed."""
    state = {name: torch.zeros_like(tensor) for name, tensor in load_state(tiny_vit).items()}
    torch.save(state, tmp_path / "zero.pth")
    encoder = ShardedEncoder.open(find_model(MODEL, weights=tmp_path / "zero.pth"), devices=["cpu", "cpu"], threads=1)
    processes = [device.worker for device in encoder._devices]
    pixels = np.zeros((5, 160, 160, 3), np.uint8)
    for _ in range(2):  # answers of the first call must not be taken for those of the second
        with pytest.raises(PictureError, match=r"of rows 0 to 1, row 0, 1: .* zero or not finite"):
            encoder.encode(pixels)
    os.kill(processes[1].pid, signal.SIGKILL)
    with pytest.raises(
        InputError, match=r"device cpu: its process ended \(SIGKILL, possibly out of memory\).*lower --batch"
    ):
        encoder.encode(pixels)
    encoder.close()
    assert not any(process.alive for process in processes)


def test_names_of_devices() -> None:
    assert device_names("cuda:0, cuda:1") == ["cuda:0", "cuda:1"]
    assert device_names("auto") == ["auto"]


def test_an_ingest_on_two_devices(tmp_path: Path, tiny_vit: Path, lite: str) -> None:
    """The command's rows are those of one device, and nothing of it is left behind."""
    registry = write_dataset(tmp_path, {"250918092555_300": 9})
    common = (
        "dataset",
        "jamshill_image",
        "--registry",
        registry,
        "--weights",
        tiny_vit,
        "--model",
        MODEL,
        "--json",
        "--quiet",
    )
    two = start("ingest", *common, "--devices", "cpu,cpu", "--batch", 4, "--uri", tmp_path / "two.db")
    out, err = two.communicate(timeout=200)
    assert two.returncode == 0, err
    assert '"device": "cpu,cpu"' in out and '"upserted": 9' in out
    assert "leaked" not in err and not err.strip()
    one = run("ingest", *common, "--devices", "cpu", "--uri", tmp_path / "one.db")
    assert one.json["upserted"] == 9
    found, expected = (vectors_of(tmp_path / name) for name in ("two.db", "one.db"))
    assert found.keys() == expected.keys()
    assert max(np.abs(found[key] - expected[key]).max() for key in found) < 1e-5


def vectors_of(uri: Path) -> dict[str, np.ndarray]:
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    with Store.connect(str(uri)) as store:
        pages = list(Collection.open(store, "outcrop").scan(vectors=True))
    return {item.key: vector for items, vectors in pages for item, vector in zip(items, vectors, strict=True)}


def test_several_devices_for_a_query_mean_the_first(tmp_path: Path, tiny_vit: Path, lite: str) -> None:
    registry = write_dataset(tmp_path, {"250918092555_300": 2})
    run("ingest", "dataset", "jamshill_image", "--registry", registry, "--weights", tiny_vit, "--model", MODEL)
    photo = next((tmp_path / "images").rglob("*.jpg"))
    hits = run("query", "image", photo, "--devices", "cpu,cpu", "--json").json["queries"][0]["hits"]
    assert hits[0]["score"] > 0.999


def test_the_process_of_a_device_does_not_digest_the_weights_again(
    tiny_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digested: list[Path] = []

    def counted(*paths: Path) -> str:
        digested.extend(paths)
        return digest_of_file(*paths)

    monkeypatch.setattr("outcrop.embed.weights.digest_of_file", counted)
    weights = Path(shutil.copy(tiny_vit, tmp_path))
    model = find_model(MODEL, weights=weights, size=(64, 96))
    assert digested == [weights.resolve()]
    request = pickle.loads(pickle.dumps(_Open(model, {"device": "cpu", "threads": None})))
    (opened,) = encoding()(request, memoryview(b""))
    assert opened.space == model.space, "the digest has come along"
    assert digested == [weights.resolve()]
