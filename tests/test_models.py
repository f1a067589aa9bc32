"""A command's model: resolved once, in agreement with the collection, and handed on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meshes
import pytest
from commands import run
from pictures import write_dataset

from outcrop.embed import weights as checkpoint
from outcrop.embed.models import find_model, make_space, resolve, resolve_space
from outcrop.schema import registry as registries
from outcrop.schema.errors import SpaceMismatch, WeightsError
from outcrop.schema.settings import Settings

MODEL = "timm:test_vit"
ONCE = {"registry": 1, "located": 1, "digested": 1}


@pytest.fixture
def weights(tmp_path: Path, tiny_vit: Path) -> Path:
    """Weights at a path of this test's own, which no cache knows."""
    return Path(shutil.copy(tiny_vit, tmp_path / "vit.safetensors"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the registry was read, weights were located, and weights were digested."""
    counts: Counter[str] = Counter()

    def count(what: str, of: Any, name: str) -> None:
        before: Callable[..., Any] = getattr(of, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            if what != "digested" or arguments[0].name.endswith("vit.safetensors"):  # meshes are digested too
                counts[what] += 1
            return before(*arguments, **named)

        monkeypatch.setattr(of, name, counting)

    count("registry", registries, "read_document")
    count("located", checkpoint, "locate")
    count("digested", hashlib, "file_digest")
    return counts


@pytest.fixture
def registry(tmp_path: Path, weights: Path, lite: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photographs, and a model for the commands."""
    monkeypatch.setenv("OUTCROP_MODEL", MODEL)
    monkeypatch.setenv("OUTCROP_WEIGHTS", str(weights))
    path = write_dataset(tmp_path, {"250918092555_300": 3})
    monkeypatch.setenv("OUTCROP_REGISTRY", str(path))
    return path


def forget() -> None:
    """What the process remembers: every command begins anew."""
    registries._read.cache_clear()
    checkpoint._digest.cache_clear()


def test_every_command_resolves_its_model_once(
    tmp_path: Path, registry: Path, counted: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shells = tmp_path / "shells"
    meshes.write(shells / "ball.ply", *meshes.ball(2))
    photo = next((tmp_path / "images").rglob("*.jpg"))
    commands: list[tuple[object, ...]] = [
        ("collection", "create", "other"),
        ("ingest", "dataset", "jamshill_image"),
        ("ingest", "dataset", "jamshill_image", "--force"),
        ("ingest", "dataset", "jamshill_image", "--dry-run"),
        ("ingest", "specimens", shells, "--views", 2, "--uri", tmp_path / "shells.db"),
        ("query", "image", photo),
        ("query", "evaluate", "--truth", "own", "--pictures", photo, "--count-own"),
    ]
    for arguments in commands:
        monkeypatch.setenv("OUTCROP_STATE", str(tmp_path / f"state{len(counted)}"))
        forget()
        counted.clear()
        outcome = run(*arguments, "--quiet")  # type: ignore[arg-type]
        assert outcome.code == 0, outcome.err
        assert counted == ONCE, arguments


def test_several_devices_are_one_model(registry: Path, counted: Counter[str]) -> None:
    outcome = run("ingest", "dataset", "jamshill_image", "--devices", "cpu,cpu", "--quiet", "--json")
    assert outcome.code == 0 and outcome.json["device"] == "cpu,cpu", outcome.err
    assert counted == ONCE


def test_a_collection_s_model_is_taken_unless_another_is_asked_for(tmp_path: Path, weights: Path) -> None:
    made = find_model(MODEL, weights, size=64, fit="pad", pooling="avg")
    absent = tmp_path / "absent.json"
    for settings in (
        Settings(registry=absent),
        Settings(registry=absent, model=MODEL, pooling="avg"),
        Settings(registry=absent, weights=weights),
    ):
        found = resolve(settings, made.space, made.hint, size=64, fit="pad")
        assert found.space == made.space and found.weights.samefile(weights)
    for asked, more, message in (
        ({"model": "dinov3_vits16"}, {}, r"of timm:test_vit\.r160_in1k, not dinov3_vits16; leave --model .* out"),
        ({"pooling": "gem"}, {}, "pooled by avg, not gem; leave --pooling .* out"),
        ({}, {"size": 96}, "of pictures of size 64x64, not 96x96; leave --input-size out"),
        ({}, {"fit": "crop"}, "of pictures fitted by pad, not crop; leave --fit out"),
    ):
        with pytest.raises(SpaceMismatch, match=f"collection 'outcrop' holds vectors {message}"):
            resolve(Settings(registry=absent, **asked), made.space, made.hint, **more)  # type: ignore[arg-type]


def test_other_weights_under_the_same_name_are_refused(tmp_path: Path, weights: Path) -> None:
    made, settings = find_model(MODEL, weights), Settings(registry=tmp_path / "absent.json", model="dinov3_vits16")
    assert resolve_space(made.space, settings, made.hint) == made  # a collection's own, whatever is asked for
    with weights.open("ab") as file:
        file.write(b" ")
    with pytest.raises(SpaceMismatch, match=r"not the ones that made the collection.*give the same --weights"):
        resolve_space(made.space, settings, made.hint)
    weights.unlink()
    with pytest.raises(WeightsError, match=r"--weights FILE.*\(the collection's vectors were made by timm:test_vit"):
        resolve_space(made.space, settings, made.hint)


def test_the_space_of_a_model_is_known_without_its_weights(weights: Path) -> None:
    model = find_model(MODEL, weights, size=(64, 96), pooling="gem")
    assert make_space(model.preset, model.space.weights_digest, (64, 96), pooling="gem") == model.space


@pytest.fixture
def large(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Weights that are worth remembering, and old enough."""
    monkeypatch.setattr(checkpoint, "MIN_REMEMBERED", 0)
    os.utime(weights, (1_700_000_000, 1_700_000_000))
    return Settings(registry=tmp_path / "absent.json", model=MODEL, weights=weights, state=tmp_path / "state")


def test_digests_outlive_the_command(large: Settings, weights: Path, counted: Counter[str]) -> None:
    first = resolve(large)
    forget()
    assert resolve(large) == first and resolve(large) == first
    assert counted["digested"] == 1
    assert large.state.is_dir() and str(weights) in (large.state / "weights.json").read_text()


def same_size(weights: Path) -> None:
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)


def moved_over(weights: Path) -> None:
    """Another file with the size and time of the old one."""
    before, other = weights.stat(), weights.with_name("other")
    shutil.copy(weights, other)
    same_size(other)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(weights)


@pytest.mark.parametrize("change", [same_size, moved_over])
def test_changed_weights_are_digested_again(
    change: Callable[[Path], None], large: Settings, weights: Path, counted: Counter[str]
) -> None:
    before = resolve(large)
    change(weights)
    forget()
    assert resolve(large).space.weights_digest == checkpoint.digest_of_file(weights) != before.space.weights_digest
    assert counted["digested"] == 3


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": [1, 2, 3, "x"]}', "null"])
def test_a_damaged_memory_is_none(text: str, large: Settings, weights: Path) -> None:
    large.state.mkdir()
    (large.state / "weights.json").write_text(text)
    assert resolve(large).space.weights_digest == checkpoint.digest_of_file(weights)
    kept = json.loads((large.state / "weights.json").read_text())
    assert list(kept) == [str(weights)]


def test_what_is_being_written_is_not_remembered(large: Settings, weights: Path) -> None:
    weights.touch()
    resolve(large)
    assert not (large.state / "weights.json").exists()
    os.utime(weights, (1_700_000_000, 1_700_000_000))
    large.state.write_text("a file where the folder would be: nothing can be kept")
    assert resolve(large).weights == weights
