"""Everything a person can get wrong ends in one line with cause and fix, the documented exit code, and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run
from pictures import picture, write_dataset

from outcrop.schema.item import image_key
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

LITE = ("--model", "efficientnet_lite0")


def ingest(name: str = "jamshill_image", *more: object):
    return run("ingest", "dataset", name, *LITE, "--json", *more)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path, {"250918092555_300": 3})


def stored() -> int:
    with Store.connect("outcrop.db") as store:
        return Collection.open(store, "outcrop").count()


def test_missing_registry() -> None:
    line = ingest().error(3)
    assert "data_key.json" in line and "--registry" in line
    assert not Path("outcrop.db").exists()


def test_unknown_dataset_names_the_nearest(dataset: Path) -> None:
    assert "did you mean 'jamshill_image'" in ingest("jamshil_image").error(3)


def edit(registry: Path, **fields: object) -> None:
    values = json.loads(registry.read_text())
    values["datasets"]["jamshill_image"].update(fields)
    registry.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"filename_template": "{capture}_{frame:04d}.jpg"}, "did you mean 'capture_id'"),
        ({"filename_template": "{capture_id}.jpg"}, "{frame"),
        ({"filename_template": "{capture_id"}, "filename_template"),
        ({"folder_template": "../{capture_id}"}, "leaves its root"),
        ({"root": "/etc"}, "leaves its root"),
        ({"images": {"250918092555_300": -1}}, "250918092555_300"),
        ({"images": {"250918092555_300": "many"}}, "250918092555_300"),
        ({"root": "not_there"}, "not_there"),
        ({"folder_templat": "x"}, "folder_templat"),
    ],
)
def test_wrong_registry(dataset: Path, fields: dict, said: str) -> None:
    if "folder_templat" in fields:
        values = json.loads(dataset.read_text())
        del values["datasets"]["jamshill_image"]["folder_template"]
        dataset.write_text(json.dumps(values))
    edit(dataset, **fields)
    assert said in ingest().error(3)


def test_damaged_registry_names_the_line(dataset: Path) -> None:
    dataset.write_text('{"datasets": {\n "a": {"root": "x",, }}}')
    assert "line 2" in ingest().error(3)


def test_every_picture_broken(dataset: Path) -> None:
    for file in dataset.parent.rglob("*.jpg"):
        file.write_bytes(b"\xff\xd8\xff nothing behind")
    outcome = ingest()
    assert "3 of 3 items failed" in outcome.error(4) and outcome.json["embedded"] == 0


def test_query_picture_missing_or_broken(dataset: Path) -> None:
    ingest()
    assert "nowhere.jpg" in run("query", "image", "nowhere.jpg").error(3)
    picture(1, 1, 1).save("tiny.png")
    assert "1x1" in run("query", "image", "tiny.png").error(3)
    Path("empty").mkdir()
    assert "no picture" in run("query", "image", "empty").error(3)


def test_filters(dataset: Path) -> None:
    ingest()
    key = image_key("jamshill_image", "250918092555_300", 1)
    assert "did you mean 'altitude'" in run("query", "item", key, "--where", "altitud=300").error(3)
    assert "number" in run("query", "item", key, "--where", "altitude=high").error(3)
    assert "whole number" in run("query", "item", key, "--where", "frame=1.5").error(3)
    assert "not a valid condition" in run("query", "item", key, "--where", "altitude").error(3)
    assert "kind" in run("query", "item", key, "--where", "kind=images").error(3)
    assert "filter" in run("query", "item", key, "--filter", "((frame ==").error(3)
    assert "no item" in run("query", "item", key.replace("0001", "0099")).error(3)
    assert "holds no image" in run("query", "dataset", "other").error(3)


def test_no_such_collection(dataset: Path) -> None:
    ingest()
    assert "did you mean 'outcrop'" in run("query", "item", "x", "--collection", "outcrob").error(3)
    assert "not a valid collection name" in run("query", "item", "x", "--collection", "a b; drop").error(3)


def test_collection_of_another_space(dataset: Path) -> None:
    assert ingest().code == 0
    line = ingest("jamshill_image", "--size", 256).error(6)
    assert "224x224" in line and "256x256" in line
    line = run("query", "image", next(dataset.parent.rglob("*.jpg")), "--model", "dinov2_vits14").error(6)
    assert "efficientnet_lite0" in line
    assert stored() == 3


def test_collection_that_is_not_ours(dataset: Path) -> None:
    with Store.connect("outcrop.db") as store:
        store.client.create_collection("outcrop", dimension=4)
    assert "not made by Outcrop" in ingest().error(6)


def test_no_weights(dataset: Path) -> None:
    line = run("ingest", "dataset", "jamshill_image").error(3)  # the default of a new collection has no weights here
    assert "dinov3_vits16" in line and "--weights" in line and "efficientnet_lite0" in line
    assert "did you mean" in run("ingest", "dataset", "jamshill_image", "--model", "dinov3_vits61").error(3)
    Path("weights.pth").write_bytes(b"garbage")
    line = run("ingest", "dataset", "jamshill_image", "--model", "dinov2_vits14", "--weights", "weights.pth").error(3)
    assert "weights.pth" in line
    assert "ingest something first" in run("query", "item", "x").error(3), "a collection was made without an encoder"


def test_locked_by_another_process(dataset: Path) -> None:
    assert ingest().code == 0
    script = """
import sys
from outcrop.store.connection import Store
Store.connect("outcrop.db")
print("open", flush=True)
sys.stdin.read()
"""
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline().strip() == "open"
        line = ingest("jamshill_image", "--patience", 0).error(5)
        assert "outcrop.db/LOCK" in line and str(holder.pid) in line
    finally:
        holder.communicate("")
    assert ingest().json["unchanged"] == 3


def test_no_server(dataset: Path) -> None:
    line = ingest("jamshill_image", "--uri", "http://127.0.0.1:9", "--timeout", 2, "--patience", 0).error(5)
    assert "http://127.0.0.1:9" in line


def test_odd_addresses(dataset: Path) -> None:
    assert "ends in .db" in ingest("jamshill_image", "--uri", "outcrop").error(3)
    assert "does not exist" in ingest("jamshill_image", "--uri", "no/such/outcrop.db").error(3)
    Path("file.db").write_text("old")
    assert "is a file" in ingest("jamshill_image", "--uri", "file.db").error(3)


def test_settings_file(dataset: Path) -> None:
    Path("outcrop.yaml").write_text("token: secret-of-mine\n")
    line = ingest().error(3)
    assert "OUTCROP_TOKEN" in line and "secret-of-mine" not in line
    Path("outcrop.yaml").write_text("colection: x\n")
    assert "did you mean 'collection'" in ingest().error(3)
    assert "elsewhere.yaml" in ingest("jamshill_image", "--config", "elsewhere.yaml").error(3)


def test_usage() -> None:
    assert run("ingest", "datasett", "x").code == 2
    assert run("query", "item").code == 2
    assert run("query", "item", "x", "--json", "--csv").error(2)
    assert run("ingest", "dataset", "x", "--fit", "stretch", *LITE).code in (2, 3)


@pytest.mark.parametrize("module", ["outcrop.ingest.cli", "outcrop.query.cli", "outcrop.operate.cli"])
def test_help_loads_nothing_heavy(module: str) -> None:
    script = f"""
import sys
sys.argv = ["x", "--help"]
from {module} import app
try:
    app()
except SystemExit as end:
    assert end.code == 0
print([m for m in ("torch", "timm", "pymilvus", "numpy", "PIL", "jinja2", "pydantic") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
