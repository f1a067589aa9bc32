"""How fast this machine decodes and embeds: a short trial, remembered in the state folder, and what is known from ingests."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from outcrop.schema.files import whole_file
from outcrop.schema.settings import Settings
from outcrop.store.plan import Rate

FILE = "rates.json"
FEWEST = 50
"""An ingest that embedded fewer items says nothing of the rate."""


@dataclass(frozen=True)
class Rates:
    """Pictures a second: `decode` of photographs of `megapixels` on `threads` threads, `encode` with a model on a device.

    `device_decode` is the rate of the device's own decoder, None where there is none or it was not tried.
    """

    model: str
    device: str
    threads: int
    megapixels: float
    decode: float
    encode: float
    device_decode: float | None = None

    @property
    def decoding(self) -> float:
        """Pictures decoded a second, on threads and on the device beside them."""
        return self.decode + (self.device_decode or 0.0)

    @property
    def bound(self) -> str:
        """What the pipeline will be bound by."""
        return "decoding" if self.decoding < self.encode else "encoding"

    @property
    def pipeline(self) -> float:
        """Pictures a second that the pipeline reaches at best: both stages run at the same time, and the slower one decides.

        On a CPU they share its cores, and then the times of both add up.
        """
        if self.device == "cpu":
            return 1 / (1 / self.decoding + 1 / self.encode)
        return min(self.decoding, self.encode)


def remember(state: Path, rates: Rates) -> None:
    """Keeps the rates in the state folder."""
    state.mkdir(parents=True, exist_ok=True)
    with whole_file(state / FILE) as file:
        file.write_text(json.dumps(asdict(rates), indent=1), encoding="utf-8")


def remembered(state: Path) -> Rates | None:
    """The rates of the last trial; None where there was none, or its file cannot be read."""
    try:
        return Rates(**json.loads((state / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def best_known(settings: Settings) -> Rate | None:
    """Items a second: of the last ingest that embedded enough of them, else of the last trial; None where neither was."""
    from outcrop.ingest.records import list_runs

    for run in list_runs(settings.state):
        if run.embedded >= FEWEST and run.images_per_second:
            where = f" with {run.model} on {run.device}" if run.device else ""
            return Rate(run.images_per_second, f"the ingest of {run.started}{where}", "cuda" in run.device)
    trial = remembered(settings.state)
    if trial is None:
        return None
    source = f"`collection doctor --trial` with {trial.model} on {trial.device}"
    return Rate(trial.pipeline, source, "cuda" in trial.device)
