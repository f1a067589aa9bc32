"""The machine that embeds: its cores or cards, what decodes there, and how fast it was in a trial."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from outcrop.operate.rates import Rates, remember, remembered
from outcrop.schema.errors import OutcropError
from outcrop.schema.machine import cores
from outcrop.schema.settings import Settings

Verdict = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One check: its verdict, what was seen, and what to do about it ('' where nothing)."""

    check: str
    verdict: Verdict
    seen: str
    advice: str = ""


def machine(settings: Settings, *, trial: bool = False) -> Iterator[Finding]:
    """The cards, the decoders and the rates of this machine; `trial` measures the rates anew and remembers them."""
    yield from _gpu()
    if trial:
        yield from _trial(settings)
    elif (known := remembered(settings.state)) is not None:
        yield from _rates(known, " when it was last tried")


def _gpu() -> Iterator[Finding]:
    if shutil.which("nvidia-smi") is None:
        yield Finding("gpu", "ok", "no NVIDIA driver on this machine: embedding runs on the CPU")
        yield Finding("decoders", "ok", f"{_cpu_decoder()} on {cores()} threads")
        return
    import torch

    if not torch.cuda.is_available():
        yield Finding(
            "gpu",
            "warning",
            f"nvidia-smi is there (driver {_driver()}), but torch sees no GPU",
            "install a CUDA build of torch, or a newer driver",
        )
        return
    for number in range(torch.cuda.device_count()):
        yield _card(number)
    yield Finding("decoders", "ok", f"{_cpu_decoder()} on {cores()} threads; {_device_decoder()}")


def _card(number: int) -> Finding:
    import torch

    facts = torch.cuda.get_device_properties(number)
    free, total = torch.cuda.mem_get_info(number)
    seen = (
        f"cuda:{number} {facts.name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free, "
        f"capability {facts.major}.{facts.minor}, driver {_driver()}"
    )
    old = (facts.major, facts.minor) < (7, 0)
    return Finding("gpu", "warning" if old else "ok", seen, "Milvus's GPU indexes need capability 7.0" if old else "")


def _driver() -> str:
    """The version of the NVIDIA driver; "of unknown version" where nvidia-smi does not say."""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    return (said.splitlines() or ["of unknown version"])[0].strip()


def _cpu_decoder() -> str:
    """The library that decodes JPEGs on the CPU."""
    from PIL import features

    turbo = features.version("libjpeg_turbo")
    return f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"


def _device_decoder() -> str:
    """The decoder of the first card, or why there is none."""
    from outcrop.embed.decoding import find_decoder

    found = find_decoder("cuda")
    return f"none on the card ({found})" if isinstance(found, str) else found.describe()


def _trial(settings: Settings) -> Iterator[Finding]:
    """Measures and remembers; what cannot be tried (a model without weights) is a warning."""
    from outcrop.operate.trial import measure

    try:
        found = measure(settings)
    except OutcropError as error:
        yield Finding("rates", "warning", f"not tried: {error}")
        return
    remember(settings.state, found)
    yield from _rates(found, "")


def _rates(rates: Rates, when: str) -> Iterator[Finding]:
    on_card = "" if rates.device_decode is None else f", {rates.device_decode:,.1f} more on {rates.device}"
    photographs = f"photographs of {rates.megapixels:g} megapixels"
    yield Finding(
        "decode rate", "ok", f"{rates.decode:,.1f} {photographs} a second on {rates.threads} threads{on_card}{when}"
    )
    yield Finding(
        "encode rate", "ok", f"{rates.encode:,.1f} pictures a second with {rates.model} on {rates.device}{when}"
    )
    advice = "smaller photographs, more cores, or a card" if rates.bound == "decoding" else "a card, or a smaller model"
    yield Finding(
        "bound by", "ok", f"{rates.bound}: an ingest of photographs makes about {rates.pipeline:,.1f} a second", advice
    )
