"""The fault campaign: what people and machines do to an ingest, and whether everything is there afterwards.

    python benchmarks/faults.py [--part kills] [--count N] [--seed 1] [--backend lite|server|both]

Every part works in folders of its own below a temporary one, over the loopback only, and prints one line per case. Without
`--part` all are run, and a table at the end says of each, on each backend, how many cases were to be run, were run, and held. The
exit code is 1 when something was lost, doubled, not healed, answered wrongly, or ended with a traceback, or a part did not end.

- kills (36 per backend): SIGKILL at a random moment of a first ingest, which creates the collection (dataset, references and
  specimens in turn). The same command is run again; the collection must equal that of an undisturbed run: ids, metadata,
  vectors.
- signals (12): SIGINT and SIGTERM, once and twice, at a random moment. The command ends with 130 and without a traceback; then
  as above.
- places (30): the state folder, the Milvus Lite directory, thumbnails, features, references, renders, reports, answers, exports
  and clusters on a full or read-only disk, and a collection whose disk became so (file systems mounted in a namespace of the
  script's own; Linux). One line with exit code 3 or 5; with the disk mended, the same command heals.
- ledgers (20): run records and ledgers cut short, flipped, emptied or of wrong types. `ingest status`, `status last` and
  `retry last` end in an orderly way.
- flips (200): one bit of one file of a Milvus Lite directory. Queries, an export and `collection verify` are refused in one
  line, or are right.
- trees (60): a file of a tree of vectors, or an exported Parquet file, damaged. Reading it is refused, or goes on without it.
- together (5 per backend): two first ingests at once. Both succeed.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "tests")]  # last: what is installed wins

from benchmarks import disturbed, places, spoilt  # noqa: E402  the path to them is set above
from benchmarks.trial import Trial  # noqa: E402  likewise
from benchmarks.warm import warm_up  # noqa: E402  likewise


@dataclass(frozen=True)
class Part:
    """A part of the campaign: its number of cases, what runs them, and whether each backend has its own."""

    count: int
    cases: Callable[[Trial, int], Iterator[tuple[str, str]]]
    on_server: bool = False


PARTS = {
    "kills": Part(36, disturbed.kills, on_server=True),
    "signals": Part(12, disturbed.signals),
    "places": Part(30, places.places),
    "ledgers": Part(20, spoilt.ledgers),
    "flips": Part(200, spoilt.flips),
    "trees": Part(60, spoilt.trees),
    "together": Part(5, disturbed.together, on_server=True),
}

ENDED = re.compile(r"\w+ on (?P<backend>\w+): (?P<run>\d+) cases, (?P<failed>\d+) failed, (?P<seconds>\d+) s")
"""The line with which a part ends on a backend."""
SKIPPED = re.compile(r"skipped on (?P<backend>\w+): ")


def main() -> int:
    """Runs the campaign; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--count", type=int, help="cases of each part (and backend)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=("lite", "server", "both"), default="both")
    parser.add_argument("--failures-only", action="store_true", help="print no line for a case that went well")
    arguments = parser.parse_args()
    if arguments.part == "all":
        return _run_all(arguments)
    if arguments.part == "places" and not _may_mount():
        return 0
    warm_up()
    part = PARTS[arguments.part]
    failed = 0
    for backend in _backends(arguments, part):
        failed += _run_part(arguments, part, backend)
    return int(failed > 0)


def _run_all(arguments: argparse.Namespace) -> int:
    """Runs every part in a process of its own, and prints a table of them at the end."""
    code, rows = 0, [f"{'part':9} {'backend':7} {'cases':>6} {'run':>6} {'held':>6} {'failed':>6} {'seconds':>8}"]
    for name, part in PARTS.items():
        left = {backend: arguments.count or part.count for backend in _backends(arguments, part)}
        command = [sys.executable, "-u", __file__, *sys.argv[1:], "--part", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                if ended := ENDED.match(line):
                    run, failed = int(ended["run"]), int(ended["failed"])
                    cases = left.pop(ended["backend"])
                    counts = f"{cases:6} {run:6} {run - failed:6} {failed:6} {int(ended['seconds']):8}"
                    rows.append(f"{name:9} {ended['backend']:7} {counts}")
                elif skipped := SKIPPED.match(line):
                    backend = skipped["backend"]
                    rows.append(f"{name:9} {backend:7} {left.pop(backend):6} {0:6}  {line.strip()}")
        rows += [f"{name:9} {backend:7} {cases:6}  did not end" for backend, cases in left.items()]
        code = max(code, abs(process.returncode), len(left))
    print("\n" + "\n".join(rows))
    print("all held" if not code else "MISSES: see the lines above that do not end in ok", flush=True)
    return min(1, code)


def _backends(arguments: argparse.Namespace, part: Part) -> list[str]:
    """The backends that a part is run on."""
    every = ("lite", "server") if part.on_server else ("lite",)
    return [backend for backend in every if arguments.backend in (backend, "both")]


def _run_part(arguments: argparse.Namespace, part: Part, backend: str) -> int:
    """Runs the cases of one part on one backend; returns how many failed."""
    count, failed, done, begun = arguments.count or part.count, 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="outcrop-faults-") as temporary, _address(backend, temporary) as address:
        if address is None:
            return 0
        trial = Trial(Path(temporary), address, random.Random(arguments.seed))
        for name, complaint in part.cases(trial, count):
            done += 1
            failed += bool(complaint)
            if complaint or not arguments.failures_only:
                print(f"{arguments.part:9} {backend:7} {name:52} {complaint or 'ok'}", flush=True)
    seconds = time.monotonic() - begun
    print(
        f"{arguments.part} on {backend}: {done} cases, {failed} failed, {seconds:.0f} s, seed {arguments.seed}",
        flush=True,
    )
    return failed + (done < count)


@contextmanager
def _address(backend: str, folder: str) -> Iterator[str | None]:
    """'' for Milvus Lite, a server's address while it runs, None (and said) where the machine cannot run one."""
    from milvus_server import MilvusServer, why_not

    if backend == "lite":
        yield ""
        return
    if reason := why_not():
        print(f"skipped on server: {reason}")
        yield None
        return
    server = MilvusServer(Path(folder) / "milvus")
    server.start()
    try:
        yield server.uri
    finally:
        server.stop()


def _may_mount() -> bool:
    """Whether this process is alone in a mount namespace; starts itself again in one, where the system allows it."""
    if os.environ.get("FAULTS_MAY_MOUNT"):
        return True
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True).returncode:
        print("skipped on lite: file systems cannot be mounted here (unshare -rm)")
        return False
    os.environ["FAULTS_MAY_MOUNT"] = "1"
    os.execv(unshare, [unshare, "-rm", sys.executable, *sys.argv])


if __name__ == "__main__":
    sys.exit(main())
