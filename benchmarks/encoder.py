"""The encoder, eager and compiled, against timm's bare network whole in the same precision, bf16 against fp32, and the time from
a cold start to the first vector.

    python benchmarks/encoder.py [--repeat 9] [--pictures 16] [--device cpu] [--compile] [--json]

On a card, `--pictures 256 --compile` gives its rates.

Both sides of a comparison run in turns in the same process, at the same batch and precision, so that noise meets both; ratios
are medians of the ratios of neighbouring turns. On a CPU the clock is the processor's, of one thread, which other processes
disturb less; elsewhere it is the wall's. `timm` is the network as timm builds it, given normalised float planes that
are there already; `ours` takes uint8 pixels and gives unit vectors. Networks without weights on this machine get seeded random
ones (with layer scales of 0.5, so that every block counts), which changes no time; what a cosine of theirs is worth is another
matter.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MODELS = ("efficientnet_lite0", "dinov3_vits16", "timm:vit_small_patch16_224.augreg_in21k", "dinov3_convnext_tiny")

COLD = """
import sys, time
begun = time.perf_counter()
import numpy as np
from outcrop.embed.encoder import Encoder
from outcrop.embed.models import find_model
model = find_model("efficientnet_lite0")
Encoder.open(model, device=sys.argv[1]).encode(np.zeros((1, 224, 224, 3), np.uint8) + np.arange(3, dtype=np.uint8))
print(time.perf_counter() - begun)
"""


def main() -> None:
    """Runs the benchmark and prints a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--threads", type=int, default=1, help="torch's threads on a CPU")
    parser.add_argument("--compile", action="store_true", help="a compiled encoder beside the eager one")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {"device": arguments.device, "pictures": arguments.pictures, "models": {}}
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            result["models"][model] = measure(
                model, Path(folder), arguments.device, arguments.pictures, arguments.repeat, arguments.compile
            )
    cold = [float(run_cold(arguments.device)) for _ in range(3)]
    result["cold_start_seconds"] = round(statistics.median(cold), 2)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    for model, figures in result["models"].items():
        print(model)
        for name, value in figures.items():
            print(f"  {name:28} {value}")
    print(f"from a cold start to the first vector (efficientnet_lite0): {result['cold_start_seconds']} s")


def run_cold(device: str) -> str:
    """Seconds from before the imports to the first vector, in a process of its own."""
    command = [sys.executable, "-c", COLD, device]
    root = Path(__file__).resolve().parents[1]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout.strip()


def measure(model: str, folder: Path, device: str, pictures: int, repeat: int, compile: bool = False) -> dict[str, Any]:
    """Pictures per second of ours, eager and (with `compile`) compiled, and of timm's, in fp32 and bf16; their ratios, and the
    cosine of bf16 to fp32."""
    from outcrop.embed.encoder import Encoder
    from outcrop.embed.models import find_model, find_preset
    from outcrop.embed.weights import locate
    from outcrop.sample.photos import write_photos

    preset = find_preset(model)
    try:
        weights, real = locate(preset), True
    except Exception:  # noqa: BLE001  not on this machine: the times are the same with random ones
        weights, real = random_weights(model, folder), False
    pixels = photographs(write_photos(folder / "photos", pictures, size=(640, 480)), preset.size)
    figures: dict[str, Any] = {"weights": "real" if real else "random"}
    clock = time.process_time if device == "cpu" else time.perf_counter
    vectors = {}
    for precision in ("fp32", "bf16"):
        found = find_model(model, weights=weights)
        encoder = Encoder.open(found, device=device, precision=precision, batch=pictures)
        runs = {
            "ours": lambda encoder=encoder: encoder.encode(pixels),
            "timm": bare_forward(model, weights, device, precision, pixels),
        }
        if compile:
            other = Encoder.open(found, device=device, precision=precision, batch=pictures)
            if other.compile():  # where that fails, a warning has said so
                runs["compiled"] = lambda other=other: other.encode(pixels)
        vectors[precision] = encoder.encode(pixels)
        seconds = turns(runs, repeat, clock)
        for name, taken in seconds.items():
            figures[f"{precision}_{name}_per_second"] = round(pictures / statistics.median(taken), 2)
            if name != "timm":
                ratios = [b / a for a, b in zip(taken, seconds["timm"], strict=True)]
                figures[f"{precision}_{name}_by_timm"] = round(statistics.median(ratios), 3)
    cosines = (vectors["fp32"].astype(np.float64) * vectors["bf16"]).sum(1)
    return figures | {
        "bf16_cosine_least": round(float(cosines.min()), 5),
        "bf16_cosine_median": round(float(np.median(cosines)), 5),
    }


def turns(runs: Mapping[str, Callable[[], Any]], repeat: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each by a clock, one after the other, after one unmeasured turn each."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeat):
        for name, run in runs.items():
            begun = clock()
            run()
            seconds[name].append(clock() - begun)
    return seconds


def bare_forward(model: str, weights: Path, device: str, precision: str, pixels: Any) -> Callable[[], Any]:
    """timm's network as it is built, whole in the precision, on planes that are there already, in the passes that our
    encoder makes.
    """
    import torch

    from outcrop.embed.backbones import build
    from outcrop.embed.devices import choose_device
    from outcrop.embed.encoder import CPU_STEP
    from outcrop.embed.models import find_preset
    from outcrop.embed.precision import HALVES
    from outcrop.embed.weights import load_state

    preset = find_preset(model)
    dtype = HALVES.get(precision, torch.float32)
    chosen = choose_device(device)
    network = build(preset, load_state(weights), preset.size, weights).network.to(chosen).to(dtype)
    scaled = (pixels / 255.0 - np.array(preset.mean)) / np.array(preset.std)
    planes = torch.from_numpy(scaled.astype(np.float32)).permute(0, 3, 1, 2).contiguous().to(chosen).to(dtype)
    step = (
        max(1, round(CPU_STEP * 224 * 224 / (preset.size[0] * preset.size[1]))) if chosen.type == "cpu" else len(pixels)
    )

    def run() -> Any:
        with torch.inference_mode():
            return torch.cat([network(part).float() for part in planes.split(step)]).cpu()

    return run


def random_weights(model: str, folder: Path) -> Path:
    """Seeded random weights in timm's layout."""
    import timm
    import torch

    from outcrop.embed.models import find_preset

    preset = find_preset(model)
    torch.manual_seed(0)
    options = {"img_size": 518} if preset.family == "dinov2" else {}
    classes = {} if preset.family == "timm" else {"num_classes": 0}
    state = timm.create_model(preset.timm_name, pretrained=False, **classes, **options).state_dict()
    for name, tensor in state.items():
        if "gamma" in name:
            tensor.fill_(0.5)
    path = folder / "weights.pth"
    torch.save(state, path)
    return path


def photographs(paths: list[Path], size: tuple[int, int]) -> Any:
    """Pictures as the network takes them: uint8 [N, H, W, 3]."""
    from outcrop.embed.images import decode, fit_to

    images = [decode(path.read_bytes(), name=str(path), at_least=size).image for path in paths]
    return np.stack([fit_to(image, size, "squash") for image in images])


if __name__ == "__main__":
    main()
