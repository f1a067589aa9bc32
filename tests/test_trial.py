"""The trial of a machine: rates are measured, remembered and used by plans; what cannot be tried is said."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from operations import MODEL, collection, done

from outcrop.operate import trial
from outcrop.operate.rates import FILE, Rates, best_known, remember, remembered
from outcrop.schema.settings import Settings

RATES = Rates("dinov3_vits16", "cuda:0", 16, 12.0, decode=177.0, encode=8764.0, device_decode=617.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 0.1)
    monkeypatch.setattr(trial, "SIDES", (800, 600))


def test_doctor_tries_this_machine_and_plans_use_it(lite: str, quick: None) -> None:
    found = {each["check"]: each for each in done("doctor", "--trial", *MODEL)["findings"]}
    rates = remembered(Path(".outcrop"))
    assert rates is not None and rates.model == "efficientnet_lite0" and rates.device == "cpu"
    assert rates.decode > 0 and rates.encode > 0 and rates.device_decode is None
    assert f"{rates.decode:,.1f} photographs of 0.48 megapixels a second" in found["decode rate"]["seen"]
    assert f"{rates.encode:,.1f} pictures a second with efficientnet_lite0 on cpu" in found["encode rate"]["seen"]
    assert found["bound by"]["seen"].startswith(rates.bound) and found["bound by"]["advice"]
    assert "libjpeg" in found["decoders"]["seen"]
    again = {each["check"]: each["seen"] for each in done("doctor")["findings"]}
    assert again["encode rate"] == found["encode rate"]["seen"] + " when it was last tried"
    plan = done("plan", "--rows", 10_000, "--dim", 384)
    assert plan["rate"] == pytest.approx(rates.pipeline) and "collection doctor --trial" in plan["rate_source"]
    assert plan["embed_hours"] == pytest.approx(10_000 / rates.pipeline / 3600) and plan["gpu_hours"] is None


def test_a_model_without_weights_is_said(lite: str, quick: None) -> None:
    outcome = collection("doctor", "--trial", "--model", "dinov3_vitl16")
    found = {each["check"]: each for each in outcome.json["findings"]}
    assert found["rates"]["verdict"] == "warning" and "not tried" in found["rates"]["seen"]
    assert remembered(Path(".outcrop")) is None


def test_what_a_pipeline_is_bound_by() -> None:
    """A card works beside the CPU, so the slower stage decides; on a CPU both stages share its cores."""
    assert (RATES.decoding, RATES.bound, RATES.pipeline) == (794.0, "decoding", 794.0)
    cpu = Rates("m", "cpu", 2, 12.0, decode=30.0, encode=15.0)
    assert cpu.bound == "encoding" and cpu.pipeline == pytest.approx(10.0)


def test_rates_are_remembered(tmp_path: Path) -> None:
    remember(tmp_path / "state", RATES)
    assert remembered(tmp_path / "state") == RATES
    known = best_known(Settings(state=tmp_path / "state"))
    assert known is not None and known.gpu and known.items_per_second == 794.0 and "cuda:0" in known.source


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 1}', "\x00"])
def test_a_damaged_memory_is_no_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert remembered(tmp_path) is None and best_known(Settings(state=tmp_path)) is None


def test_an_ingest_says_more_than_a_trial(tmp_path: Path) -> None:
    remember(tmp_path, RATES)
    for run, embedded in (("b", 49), ("a", 500)):
        folder = tmp_path / "runs" / run
        folder.mkdir(parents=True)
        record = {"run": run, "command": "ingest dataset", "started": f"2026-11-0{embedded % 7}", "state": "done"}
        (folder / "run.json").write_text(
            json.dumps({**record, "embedded": embedded, "seconds": 40.0, "device": "cuda:0"})
        )
    known = best_known(Settings(state=tmp_path))
    assert (
        known is not None
        and known.items_per_second == 12.5
        and known.gpu
        and known.source.startswith("the ingest of 2026-11-0")
    )


def test_rates_count_what_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 0.2)
    now = [5.0]
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def batch() -> int:
        now[0] += 0.02
        return 3

    assert trial._rate(batch) == pytest.approx(150), "3 every 20 ms, the first left out"
