"""Cases in which files are damaged: run records, ledgers, and those of a Milvus Lite directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.trial import COLLECTION, MODEL, Trial
from benchmarks.warm import run

Case = tuple[str, str]

WRONG: tuple[Any, ...] = (None, [], {}, 7, "x", True, 10**400, -1, [[1]], {"a": {"b": None}})
"""JSON values, most of them of a wrong type wherever they are put."""


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data))] if data else b"{"


def _flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(random.choice((1, 8))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _retyped(data: bytes, random: Random) -> bytes:
    """Every line that is an object with one value of another type, or the whole replaced by one."""
    try:
        values = [json.loads(data)]
    except ValueError:
        values = [json.loads(line) for line in data.splitlines() or [b"{}"]]
    for value in values:
        inner = value
        while isinstance(inner, dict) and inner:
            name = random.choice(sorted(inner))
            if not isinstance(inner[name], dict) or random.random() < 0.5:
                inner[name] = random.choice(WRONG)
                break
            inner = inner[name]
    return "\n".join(json.dumps(value) for value in values).encode()


SCORE_ERROR = 2e-5

DAMAGES: dict[str, Callable[[bytes, Random], bytes]] = {
    "cut short": _cut,
    "bits flipped": _flip,
    "emptied": lambda data, random: b"",
    "wrong types": _retyped,
    "another document": lambda data, random: json.dumps(random.choice(WRONG)).encode(),
    "nested deep": lambda data, random: b"[" * 30_000,
    "not text": lambda data, random: random.randbytes(300),
}


def ledgers(trial: Trial, count: int) -> Iterator[Case]:
    """A run with a failure whose records are damaged; then status, retry, and an ingest of the rest."""
    whole = trial.place()
    sorted((whole / "images").rglob("*.jpg"))[3].write_bytes(b"\xff\xd8 not a picture")
    assert trial.ingest("dataset", whole).code == 4
    for number in range(count):
        folder = trial.place()
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        record = next((folder / ".outcrop/runs").glob("*/run.json"))
        file = (record, record, record.with_name("failures.jsonl"), record.parents[1] / "started")[number % 4]
        how = trial.random.choice(sorted(DAMAGES))
        file.write_bytes(DAMAGES[how](file.read_bytes(), trial.random))
        yield f"{file.name} {how}", _looked_at(trial, folder, record.parent.name)
        trial.remove(folder)
    trial.remove(whole)


def _looked_at(trial: Trial, folder: Path, name: str) -> str:
    for arguments in (("status",), ("status", "--json"), ("status", "last"), ("status", name, "--json")):
        ended = run(folder, "ingest", *arguments)
        allowed = (0,) if arguments[:2] in (("status",), ("status", "--json")) else (0, 3)
        if complaint := ended.complaint(*allowed):
            return f"{' '.join(arguments)}: {complaint}"
    for target in ("last", name):
        ended = run(folder, "ingest", "retry", target, *MODEL, *trial.store(folder))
        if complaint := ended.complaint(3, 4):
            return f"retry {target}: {complaint}"
    return trial.ingest("dataset", folder).complaint(4)


def flips(trial: Trial, count: int) -> Iterator[Case]:
    """One bit of a Milvus Lite directory that holds pictures and references of two runs."""
    whole = trial.place()
    for kind in ("dataset", "references"):
        assert trial.ingest(kind, whole).code == 0
    state = whole / ".outcrop"
    right = [_answer(whole, state, arguments)[0] for arguments in ASKED]
    assert all(right), "the undamaged collection does not answer"
    store = whole / "outcrop.db"
    files = sorted(path.relative_to(store) for path in store.rglob("*") if path.is_file() and path.stat().st_size)
    sizes = [(store / file).stat().st_size for file in files]
    for number in range(count):
        # The large files hold the vectors, the small ones what the rest depends on: each kind is hit as often.
        file = trial.random.choices(files, sizes if number % 2 else None)[0]
        folder = trial.root / f"flip{number}"
        shutil.copytree(store, folder / "outcrop.db")
        data = bytearray((store / file).read_bytes())
        place, bit = trial.random.randrange(len(data)), trial.random.randrange(8)
        data[place] ^= 1 << bit
        (folder / "outcrop.db" / file).write_bytes(data)
        complaint, seen = "", ""
        for arguments, expected in zip(ASKED, right, strict=True):
            answer, wrong = _answer(folder, state, arguments)
            complaint = complaint or (f"{arguments[1]}: {wrong}" if wrong else "")
            if answer and not _same(answer, expected):
                complaint = complaint or f"{' '.join(arguments[:2])} answers wrongly: {_other(answer, expected)}"
            seen += "=" if answer else "x"
        yield f"{file.parent.name[:16]}/{file.name[-24:]} byte {place} bit {bit} {seen}", complaint
        shutil.rmtree(folder)
    trial.remove(whole)


ASKED: tuple[tuple[str, ...], ...] = (
    ("query", "item", "image/town/250918092555_300/0003", "--json", "-k", "40"),
    ("query", "item", "image/town/250918092555_300/0003", "--json", "--exact", "--where", "kind=reference", "-k", "40"),
    ("collection", "export", COLLECTION, "all.parquet"),
    ("collection", "verify", "--samples", "5", "-k", "3", "--json"),
)
"""What is asked of a damaged collection; `=` in a case's name stands for an answer, `x` for a refusal."""


def _answer(folder: Path, state: Path, arguments: tuple[str, ...]) -> tuple[Any, str]:
    """What a command answers (None where it refuses), and what is wrong with how it ended ('' for nothing)."""
    command, *rest = arguments
    exported = folder / "all.parquet"
    exported.unlink(missing_ok=True)
    more = ("--uri", "outcrop.db") if command == "collection" else (*MODEL, "--uri", "outcrop.db", "--state", state)
    ended = run(folder, command, *rest, *more)
    if (wrong := ended.complaint(0, 3, 5, 6)) or ended.code != 0:
        return None, wrong
    if rest[0] == "export":
        import pyarrow.parquet

        return sorted(map(repr, pyarrow.parquet.read_table(exported, use_threads=False).to_pylist())), ""
    answer = json.loads(ended.out)
    if rest[0] == "verify":
        return [answer["rows"]] if "rows" in answer else ["verified"], ""
    return [query["hits"] for query in answer["queries"]], ""


def _other(answer: Any, expected: Any) -> str:
    if len(answer) == len(expected) == 1 and isinstance(answer[0], list):
        answer, expected = answer[0], expected[0]
    if len(answer) != len(expected):
        return f"{len(answer)} instead of {len(expected)}"
    pairs = zip(answer, expected, strict=True)
    return next((_difference(one, other) for one, other in pairs if not _same(one, other)), "?")


def _same(one: Any, other: Any) -> bool:
    """Whether two answers are equal, their scores to within what one flipped bit of a low order may change."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= SCORE_ERROR
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _difference(one: Any, other: Any) -> str:
    if isinstance(one, dict):
        one, other = ({name: row[name] for name in row if one.get(name) != other.get(name)} for row in (one, other))
    return f"{one!r:.150} instead of {other!r:.150}"


def trees(trial: Trial, count: int) -> Iterator[Case]:
    """One file of a tree of vectors, or of an exported Parquet file, damaged; then read into a new collection."""
    whole = trial.place()
    assert trial.ingest("specimens", whole, "--export-features", "tree").code == 0
    exported = ("collection", "export", COLLECTION, "tree/all.parquet", "--uri", "outcrop.db")
    assert run(whole, *exported).code == 0
    tree = whole / "tree"
    files = sorted(path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    for number in range(count):
        file, how = files[number % len(files)], trial.random.choice(sorted(set(DAMAGES) - {"wrong types"}))
        folder = trial.root / f"tree{number}"
        shutil.copytree(tree, folder / "tree")
        data = (tree / file).read_bytes()
        # Most of a file are numbers, of which any are right: half of the time its head or its end is hit.
        edge = slice(0, 300) if number % 4 == 1 else slice(-300, None) if number % 4 == 3 else slice(None)
        (folder / "tree" / file).write_bytes(data.replace(data[edge], DAMAGES[how](data[edge], trial.random), 1))
        read = ("features", "tree", "--layout", "fossilvit", "--name", "bones", *MODEL, "--uri", "outcrop.db")
        ended = run(folder, "ingest", *read)
        if file.suffix == ".parquet":
            ended = run(folder, "collection", "import", "tree/all.parquet", "--uri", "other.db")
        yield f"{file.name} {how} ({ended.code})", ended.complaint(0, 3, 4, 6)
        shutil.rmtree(folder)
    trial.remove(whole)
