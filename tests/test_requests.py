"""Requests as values: written into a run's record, read back, and listed again; records of earlier versions too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import run
from pictures import picture, write_dataset
from pydantic import TypeAdapter, ValidationError

from outcrop.ingest.records import find_run, list_runs
from outcrop.ingest.requests import (
    AnyRequest,
    AuditRequest,
    DatasetRequest,
    FeaturesRequest,
    ManifestRequest,
    ReferencesRequest,
    SpecimensRequest,
    WrittenReferencesRequest,
)
from outcrop.ingest.runs import Run, RunSettings
from outcrop.schema.settings import Settings

RECORDS = Path(__file__).parent / "records"
"""Records of runs that an earlier version wrote; ``@PLACE@`` stands for the folder that they ran in."""
KINDS = {
    "dataset": DatasetRequest,
    "features_kept": DatasetRequest,
    "references": ReferencesRequest,
    "written": WrittenReferencesRequest,
    "manifest": ManifestRequest,
    "specimens": SpecimensRequest,
    "features": FeaturesRequest,
    "audit": AuditRequest,
}
CAPTURE = "250918092555_300"
READER: TypeAdapter[AnyRequest] = TypeAdapter(AnyRequest)


def place_record(name: str, state: Path) -> str:
    """Puts a recorded run below a state folder; returns its name."""
    text = (RECORDS / name / "run.json").read_text().replace("@PLACE@", str(Path.cwd()))
    known = json.loads(text)["run"]
    (state / "runs" / known).mkdir(parents=True)
    (state / "runs" / known / "run.json").write_text(text)
    ledger = (RECORDS / name / "failures.jsonl").read_text().replace("@PLACE@", str(Path.cwd()))
    (state / "runs" / known / "failures.jsonl").write_text(ledger)
    return str(known)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """The dataset that the recorded runs were about, whole by now."""
    write_dataset(tmp_path, {CAPTURE: 2}, name="town", root="town")
    (tmp_path / "manifest.json").write_text('{"model": "efficientnet_lite0", "datasets": ["town"]}')
    (tmp_path / "meshes/snails").mkdir(parents=True)
    (tmp_path / "meshes/snails/one.ply").write_text("broken")
    written = tmp_path / f"refs/references_town/R{CAPTURE}"
    written.mkdir(parents=True)
    for frame in (1, 2):
        for angle in (0, 90):
            picture(frame).save(written / f"{CAPTURE}_{frame:04d}_rot{angle:03d}_crop60.jpg")
    return tmp_path


@pytest.mark.parametrize("name", KINDS)
def test_records_of_earlier_versions_are_read(name: str) -> None:
    known = place_record(name, Path("state"))
    record, failures = find_run(Path("state"), known)
    before = json.loads((RECORDS / name / "run.json").read_text().replace("@PLACE@", str(Path.cwd())))
    assert isinstance(record.request, KINDS[name])
    assert (record.state, record.failed, record.space) == ("done", before["failed"], before["space"])
    assert sum(failure.items for failure in failures) == before["failed"]
    arguments = record.as_json()["arguments"]
    written = name == "written"  # angles and crops said nothing of pictures on disk
    moved = {"workers"} if name == "specimens" else {"angles", "crops", "write_images"} if written else set()
    for option, value in before["arguments"].items():
        assert option in moved or option not in arguments or arguments[option] == value, option
    assert {option for option, value in before["arguments"].items() if value is not None} - moved <= set(arguments)


@pytest.mark.parametrize(
    "name, keys", [("dataset", 1), ("references", 2), ("written", 1), ("manifest", 1), ("specimens", 3)]
)
def test_records_of_earlier_versions_are_listed_again(name: str, keys: int, world: Path) -> None:
    record, failures = find_run(Path("state"), place_record(name, Path("state")))
    assert record.request is not None
    listing = record.request.list(None, only=[failure.key for failure in failures], workers=1)
    assert listing.expected == keys


def test_a_run_of_an_earlier_version_is_retried(world: Path) -> None:
    known = place_record("dataset", Path("state"))
    options = ("--model", "efficientnet_lite0", "--state", "state", "--json")
    retried = run("ingest", "retry", known, *options)
    assert retried.code == 0, retried.err
    assert (retried.json["expected"], retried.json["embedded"], retried.json["failed"]) == (1, 1, 0)
    record, _ = find_run(Path("state"), "last")
    assert (record.retry_of, record.settings.batch, record.settings.thumbnails) == (known, 4, False)
    assert record.as_json()["arguments"]["retry_of"] == known
    assert not Path("state/thumbnails").exists()


def test_frames_without_a_known_number_in_new_and_earlier_ledgers(world: Path) -> None:
    """Earlier versions wrote ``?1`` behind the key of frame 0; both are read alike, and both are retried."""
    for file in (world / f"town/{CAPTURE}").iterdir():
        file.unlink()
    first = ("references", "town", "--angles", "0,90", "--crops", "0.6", "--model", "efficientnet_lite0")
    run("ingest", *first, "--state", "state", "--json").error(4)
    record, failures = find_run(Path("state"), "last")
    assert [(failure.key.split("/", 3)[3], failure.unnumbered) for failure in failures] == [
        ("0000/rot000/crop60", 1),
        ("0000/rot090/crop60", 1),
        ("0000/rot000/crop60", 2),
        ("0000/rot090/crop60", 2),
    ]
    ledger = Path("state/runs", record.run, "failures.jsonl")
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    earlier = [{**line, "key": f"{line['key']}?{line['unnumbered']}"} for line in lines]
    ledger.write_text("".join(json.dumps({k: v for k, v in e.items() if k != "unnumbered"}) + "\n" for e in earlier))
    assert find_run(Path("state"), record.run)[1] == failures
    picture(0).save(world / f"town/{CAPTURE}/{CAPTURE}_0000.jpg")
    picture(1).save(world / f"town/{CAPTURE}/{CAPTURE}_0001.jpg")
    retried = run("ingest", "retry", record.run, "--state", "state", "--json")
    assert (retried.code, retried.json["expected"], retried.json["embedded"]) == (0, 2, 2), retried.err


def test_what_cannot_be_retried_says_so(world: Path) -> None:
    known = place_record("audit", Path("state"))
    assert "run it again" in run("ingest", "retry", known, "--state", "state").error(3)


def test_a_request_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    settings = Settings(registry=Path("data_key.json"))
    for request in (
        DatasetRequest.of(settings, "잠실 데이터", limit=3, features="patch"),
        ReferencesRequest.of(settings, "town", angles="0,90", crops="1", add=True, write_images=Path("out")),
        WrittenReferencesRequest.of(settings, "town", folder=Path("refs")),
        SpecimensRequest(name="bones", folder=Path("meshes"), views=3, renderer="raycast"),
        FeaturesRequest(name="bones", folder=Path("tree"), layout="fossilvit"),
        AuditRequest(name="bones", collection="outcrop"),
    ):
        begun = Run.begin(tmp_path, request.command, request, RunSettings.of(settings))
        record, failures = find_run(tmp_path, begun.record.run)
        assert record.request == request and failures == []
        assert READER.validate_json(request.model_dump_json(by_alias=True)) == request
    assert all(path.is_absolute() for path in (request.registry for request in [DatasetRequest.of(settings, "x")]))


def test_a_name_that_is_not_text_reaches_the_record_and_back(tmp_path: Path) -> None:
    request = AuditRequest(name="caf\udce9")
    Run.begin(tmp_path, "audit", request)
    assert list_runs(tmp_path)[0].request == request


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="kind"):
        READER.validate_python({"kind": "video", "name": "x"})


def test_the_collection_of_the_run_is_retried_into(world: Path) -> None:
    broken = world / f"town/{CAPTURE}/{CAPTURE}_0002.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(b"broken")
    options = ("--state", "state", "--json")
    first = run("ingest", "dataset", "town", "--model", "efficientnet_lite0", "--collection", "other", *options)
    first.error(4)
    broken.write_bytes(whole)
    shutil.move("data_key.json", "registry.json")
    assert "data_key.json" in run("ingest", "retry", "last", *options).error(3)
    shutil.move("registry.json", "data_key.json")
    assert run("ingest", "retry", "last", *options).json["collection"] == "other"
