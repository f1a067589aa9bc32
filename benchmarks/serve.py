"""What `query serve` takes: to the first answer after its start, and with many people asking at once.

    python benchmarks/serve.py [--rows 100000] [--dim 384] [--picture FILE] [--users 50] [--seconds 60] [--uri URL] [--folder DIR]

The collection is synthetic (as `million.py` makes it) in the space of efficientnet_lite0, whose weights come with a package. Its
1280 numbers are cut to `--dim`; with 1280 nothing is cut. The picture is uploaded whole each time: give a photograph of twelve
megapixels, or one is drawn. Users ask in turns with the picture and with a stored item, without a pause; the service refuses
nothing as long as no more than its queue holds wait. On a busy machine look at the seconds of processor, which other work
disturbs less than the clock: they are the service's alone (Milvus Lite runs in it; a server does not). Memory is the service's
resident size as the kernel counts it. `--folder` keeps the collection, so that it is built once.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from million import PATIENCE, item_at, pages

MODEL, NAME, BOUNDARY = "efficientnet_lite0", "bench_serve", "outcrop-benchmark"
GOAL_SECONDS = 1.0
"""From the request to the first answer after the start."""


def main() -> None:
    """Builds the collection where it is not there, starts the service and asks it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument(
        "--picture", type=Path, help="the photograph to ask with; default: 4000 x 3000 pixels are drawn"
    )
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--uri", help="a server; default: a Milvus Lite directory in --folder")
    parser.add_argument("--folder", type=Path, help="where files are made and kept; default: a temporary folder")
    parser.add_argument("--repeat", type=int, default=3, help="starts, of each the first answer is timed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)  # the service itself
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        uri = arguments.uri or str(folder / f"serve{arguments.rows}x{arguments.dim}.db")
        if arguments.serve:
            serve(uri, folder, arguments.dim)
            return
        result = measure(arguments, uri, folder)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    for name, value in result.items():
        print(f"{name:32} {value}")


def measure(arguments: argparse.Namespace, uri: str, folder: Path) -> dict[str, object]:
    """All figures, and how busy the machine was."""
    built = build(uri, arguments.rows, arguments.dim)
    picture = arguments.picture.read_bytes() if arguments.picture else drawn()
    result: dict[str, object] = {"rows": arguments.rows, "dim": arguments.dim, "picture_bytes": len(picture)}
    if built is not None:
        result["build_s"] = round(built, 1)
    starts = []
    for turn in range(arguments.repeat):
        with Service(uri, folder, arguments.dim) as service:
            before = service.processor_seconds
            first = timed(lambda service=service: service.ask(picture))
            spent = service.processor_seconds - before
            later = [timed(lambda service=service: service.ask(picture)) for _ in range(9)]
            spent_later = (service.processor_seconds - before - spent) / len(later)
            starts.append((service.start_seconds, first, statistics.median(later), spent, spent_later))
            if turn == arguments.repeat - 1 and arguments.users:
                result |= crowd(service, picture, arguments.users, arguments.seconds)
    load = os.getloadavg()[0]
    return {
        **result,
        "start_s": [round(one[0], 2) for one in starts],
        "first_answer_s": [round(one[1], 3) for one in starts],
        "later_answer_s": [round(one[2], 3) for one in starts],
        "first_processor_s": [round(one[3], 2) for one in starts],
        "later_processor_s": [round(one[4], 2) for one in starts],
        "goal_s": GOAL_SECONDS,
        "met": all(one[1] <= GOAL_SECONDS for one in starts),
        "load_at_end": round(load, 1),
    }


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


class Service:
    """The service as a process of its own, from its start to its orderly end."""

    def __init__(self, uri: str, folder: Path, dim: int) -> None:
        begun = time.perf_counter()
        words = ["--serve", "--uri", uri, "--folder", str(folder), "--dim", str(dim)]
        self._process = subprocess.Popen([sys.executable, __file__, *words], stderr=subprocess.PIPE, text=True)
        self.port = 0
        for line in self._process.stderr or ():
            if "open http://" in line:
                self.port = int(line.split("://", 1)[1].split("/", 1)[0].rpartition(":")[2])
                break
            print(line, end="", file=sys.stderr)
        if not self.port:
            raise SystemExit("the service did not start")
        threading.Thread(target=self._echo, daemon=True).start()
        while True:
            with suppress(OSError):
                if self.get("/healthz")["ready"]:
                    break
            time.sleep(0.02)
        self.start_seconds = time.perf_counter() - begun

    def _echo(self) -> None:
        for line in self._process.stderr or ():
            print(line, end="", file=sys.stderr)

    def get(self, path: str, connection: http.client.HTTPConnection | None = None) -> dict[str, object]:
        """A JSON answer."""
        return self._answer("GET", path, b"", {}, connection)

    def ask(self, picture: bytes, connection: http.client.HTTPConnection | None = None) -> dict[str, object]:
        """The answer to an uploaded picture."""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="picture"; filename="asked.jpg"\r\n\r\n'.encode()
        body = head + picture + f"\r\n--{BOUNDARY}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self._answer("POST", "/api/search", body, headers, connection)

    def _answer(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: dict[str, str],
        connection: http.client.HTTPConnection | None,
    ) -> dict[str, object]:
        open_one = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            open_one.request(method, path, body, {**headers, "Accept": "application/json"})
            response = open_one.getresponse()
            data = response.read()
        finally:
            if connection is None:
                open_one.close()
        if response.status != 200:
            raise OSError(f"{path} answers {response.status}: {data[:200]!r}")
        return json.loads(data)

    @property
    def resident_mib(self) -> float:
        """Resident size of the process now."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))

    @property
    def processor_seconds(self) -> float:
        """User and system time of the process so far: what an answer costs, however busy the machine is."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *unused: object) -> None:
        self._process.terminate()
        self._process.wait(60)


@dataclass
class Told:
    """What the users were answered: seconds by question, and what went wrong."""

    picture: list[float] = field(default_factory=list)
    item: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def crowd(service: Service, picture: bytes, users: int, seconds: float) -> dict[str, object]:
    """Users that ask one after the other for some time, each on its own connection."""
    told, end = Told(), time.perf_counter() + seconds
    threads = [threading.Thread(target=user, args=(service, picture, number, end, told)) for number in range(users)]
    for thread in threads:
        thread.start()
    sizes = []
    while any(thread.is_alive() for thread in threads):
        sizes.append(service.resident_mib)
        time.sleep(1)
    third = max(1, len(sizes) // 3)
    answered = len(told.picture) + len(told.item)
    return {
        "users": users,
        "answers": answered,
        "answers_per_s": round(answered / max(seconds, len(sizes)), 1),
        "errors": len(told.errors),
        "first_error": told.errors[0] if told.errors else "",
        "picture_p50_p95_s": [round(quantile(told.picture, q), 2) for q in (0.5, 0.95)],
        "item_p50_p95_s": [round(quantile(told.item, q), 2) for q in (0.5, 0.95)],
        "resident_mib_begin_middle_end": [
            round(statistics.median(part))
            for part in (sizes[:third], sizes[third : 2 * third] or sizes, sizes[-third:])
        ],
    }


def user(service: Service, picture: bytes, number: int, end: float, told: Told) -> None:
    """One user: a picture, then an item like it, and again."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=300)
    turn = number
    while time.perf_counter() < end:
        asks_picture = turn % 2 == 0
        begun = time.perf_counter()
        try:
            if asks_picture:
                service.ask(picture, connection)
            else:
                key = item_at(3 * (turn * 37 % 30_000)).key
                service.get(f"/api/search?item={key}&k=24", connection)
            (told.picture if asks_picture else told.item).append(time.perf_counter() - begun)
        except (OSError, http.client.HTTPException, ValueError) as error:
            told.errors.append(f"{type(error).__name__}: {error}"[:300])
            connection.close()
            time.sleep(0.5)
        turn += 1
    connection.close()


def quantile(values: list[float], share: float) -> float:
    """A quantile; 0 of nothing."""
    return float(np.quantile(values, share)) if values else 0.0


def drawn() -> bytes:
    """A picture of twelve megapixels with as much detail as a photograph has, about: 4 MB."""
    from PIL import Image, ImageFilter

    noise = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)
    made = io.BytesIO()
    Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.5)).save(made, "JPEG", quality=92)
    return made.getvalue()


def build(uri: str, rows: int, dim: int) -> float | None:
    """Makes the collection; None where it is there with so many rows. Gives the seconds."""
    from outcrop.embed.models import resolve
    from outcrop.schema.errors import OutcropError
    from outcrop.schema.settings import Settings
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    begun = time.perf_counter()
    with Store.connect(uri, timeout=PATIENCE) as store:
        try:
            if Collection.open(store, NAME).count() == rows:
                return None
        except OutcropError:
            pass
        space = resolve(Settings(model=MODEL)).space.model_copy(update={"dim": dim})
        made = Collection.create(store, NAME, space)
        for items, vectors in pages(rows, dim):
            made.upsert(items, vectors)
        made.flush()
        made.wait_for_index(3600)
    return time.perf_counter() - begun


def serve(uri: str, folder: Path, dim: int) -> None:
    """`query serve` on a free port, with a model whose vectors are cut to the collection's."""
    import outcrop.embed.models as models
    import outcrop.embed.opening as opening
    from outcrop.query.service.run import serve_until_stopped
    from outcrop.schema.settings import Settings

    opened, resolved = opening.open_for_query, models.resolve

    def cut(model, settings):  # an Encoder
        encoder = opened(model, settings)
        encoder.space = encoder.space.model_copy(update={"dim": dim})
        encode = encoder.encode

        def short(pixels):
            vectors = encode(pixels)[:, :dim]
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

        encoder.encode = short
        return encoder

    opening.open_for_query = cut
    models.resolve = lambda settings, *unused: resolved(settings)
    settings = Settings(uri=uri, collection=NAME, state=folder / "state", model=MODEL)
    serve_until_stopped(settings, "127.0.0.1", 0, None, lambda text: print(text, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
