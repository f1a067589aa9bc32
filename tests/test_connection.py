"""Connecting: what is no address, who does not answer, who holds the lock, and that no password is ever shown."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from milvus_server import GUARDED_TOKEN, free_ports
from operations import SPACE
from pydantic import SecretStr

from outcrop.schema.errors import Damaged, InputError, OutcropError, Refused, StoreUnreachable, StoreUnusable
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.connection import Store, lock_holder, shown_uri, translate
from outcrop.store.patience import patiently

PASSWORD = "hunter2"

HOLDER = """
import sys
from outcrop.store.connection import Store
with Store.connect(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def held_elsewhere(uri: str) -> subprocess.Popen[str]:
    """A process that holds a Milvus Lite directory until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def release(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "outcrop",
        "./outcrop.sqlite",
        "localhost:19530",
        f"root:{PASSWORD}@localhost:19530",
        "unix:/x",
        "http://",
        "http://:19530",
        "http://host:0",
        "http://host:99999",
        f"http://root:{PASSWORD}@host:99999",
        f"http://root:{PASSWORD}@[::1:19530",
        f"htp://root:{PASSWORD}@host:19530",
        f"ftp://root:{PASSWORD}@host",
    ],
)
def test_what_is_no_address_is_bad_input(uri: str) -> None:
    with pytest.raises(InputError) as caught:
        Store.connect(uri, f"root:{PASSWORD}", timeout=5)
    assert PASSWORD not in str(caught.value)
    assert "http://" in str(caught.value), "the way out is named"
    assert os.listdir() == [], "nothing was made on the way"


@pytest.mark.parametrize(
    "uri", ["http://root:{}@127.0.0.1:{}", "https://127.0.0.1:{1}", "http://127.0.0.1:{1}/?token={0}"]
)
def test_nobody_listens(uri: str) -> None:
    (port,) = free_ports(1)
    with pytest.raises(StoreUnreachable, match=f"no answer from https?://127.0.0.1:{port}") as caught:
        Store.connect(uri.format(PASSWORD, port), f"root:{PASSWORD}", timeout=3)
    assert PASSWORD not in str(caught.value)
    assert "OUTCROP_URI" in str(caught.value)


@pytest.mark.timeout(100)
def test_somebody_listens_and_says_nothing() -> None:
    """As a hung server or a firewall does: pymilvus alone would try for minutes."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(StoreUnreachable, match="no answer"):
            Store.connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=2)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"http://root:{PASSWORD}@host:19530/db?token={PASSWORD}#{PASSWORD}", "http://host:19530/db"),
        ("https://host", "https://host"),
        (f"http://root:{PASSWORD}@host:99999", "the given address"),
        ("./outcrop.db", "./outcrop.db"),
    ],
)
def test_addresses_are_shown_without_secrets(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


def test_a_server_says_its_version(server_uri: str) -> None:
    with Store.connect(server_uri.replace("://", f"://root:{PASSWORD}@")) as store:
        assert not store.lite
        assert store.version == (2, 3, 5)
        assert store.describe() == f"Milvus 2.3.5 at {server_uri}"


def test_lite_is_described_by_its_directory() -> None:
    with Store.of(Settings(uri="./outcrop.db"), create=True) as store:
        assert store.lite
        assert store.describe() == "Milvus Lite ./outcrop.db"
    assert Path("outcrop.db").is_dir()


def test_a_slash_at_the_end_is_no_matter(lite_uri: str) -> None:
    with Store.connect(lite_uri + "/") as store:
        assert store.client.list_collections() == []
    release(held_elsewhere(lite_uri))


def test_a_file_is_no_directory() -> None:
    Path("old.db").write_bytes(b"SQLite format 3\0")
    with pytest.raises(InputError, match=r"old\.db is a file"):
        Store.connect("old.db")


def test_the_parent_folder_must_be_there() -> None:
    with pytest.raises(InputError, match="does not exist"):
        Store.connect("absent/outcrop.db")


def test_a_directory_of_something_else_is_told() -> None:
    Path("outcrop.db").mkdir()
    Path("outcrop.db/LOCK").mkdir()
    with pytest.raises(StoreUnreachable, match=r"outcrop\.db cannot be opened by Milvus Lite"):
        Store.connect("outcrop.db")


def test_a_schema_with_a_damaged_word_is_damage(lite_uri: str) -> None:
    with Store.connect(lite_uri) as store:
        Collection.create(store, "town", SPACE)
    (schema,) = Path(lite_uri).rglob("schema.json")
    schema.write_bytes(schema.read_bytes().replace(b'"dtype"', b'"dtyqe"', 1))
    with pytest.raises(Damaged, match=r"schema file .* missing key 'dtype'"), Store.connect(lite_uri) as store:
        Collection.open(store, "town")


def test_a_directory_that_cannot_be_written_is_not_called_old(lite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.connect(lite_uri).close()
    Path(lite_uri, "LOCK").unlink()
    Path(lite_uri, "LOCK").mkdir()  # what locks it fails, as on a read-only disk
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(
        StoreUnreachable, match=r"cannot be opened: no permission to write there.* a copy of it as --uri"
    ):
        Store.connect(lite_uri)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")
def test_a_locked_directory_names_the_lock_and_its_holder(lite_uri: str) -> None:
    process = held_elsewhere(lite_uri)
    try:
        assert lock_holder(Path(lite_uri)) == process.pid
        with pytest.raises(StoreUnreachable) as caught:
            Store.connect(lite_uri)
        assert f"process {process.pid} holds the lock {lite_uri}/LOCK" in str(caught.value)
    finally:
        release(process)
    with Store.connect(lite_uri) as store:
        assert lock_holder(Path(lite_uri)) == os.getpid()
        assert store.client.list_collections() == []
    assert lock_holder(Path(lite_uri)) is None


def test_closing_frees_the_directory_for_others(lite_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = Store.connect(os.path.relpath(lite_uri))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # a relative address means the folder in which it was opened
    store.persist()
    store.close()
    release(held_elsewhere(lite_uri))


def test_one_process_may_open_a_directory_twice(lite_uri: str) -> None:
    with Store.connect(lite_uri), Store.connect(lite_uri) as second:
        assert second.client.list_collections() == []


def test_a_closed_connection_is_told(lite_uri: str) -> None:
    store = Store.connect(lite_uri)
    store.close()
    with pytest.raises(OutcropError, match="cannot list collections"), store.calling("list collections"):
        store.client.list_collections(timeout=3)


@pytest.mark.slow
def test_only_the_right_token_opens_a_guarded_server(guarded: str, name: str) -> None:
    for token in (None, f"root:{PASSWORD}", f"nobody:{PASSWORD}"):
        with pytest.raises(Refused, match="set OUTCROP_TOKEN") as caught:
            Store.connect(guarded, token, timeout=10)
        assert PASSWORD not in str(caught.value)
    with Store.of(Settings(uri=guarded, token=SecretStr(GUARDED_TOKEN))) as store:
        assert not store.client.has_collection(name)


def test_patience_waits_only_for_the_unreachable() -> None:
    told: list[str] = []
    answers: list[object] = [StoreUnreachable("away"), StoreUnreachable("still away"), 7]

    def call() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(call, 30, told.append) == 7
    assert told == ["away", "still away"]
    answers[:] = [Refused("no"), 7]
    with pytest.raises(Refused):
        patiently(call, 30)
    assert answers == [7]


def test_patience_does_not_wait_for_what_no_waiting_helps() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise StoreUnusable("no permission")

    with pytest.raises(StoreUnusable):
        patiently(call, 30.0)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("[Errno 28] No space left on device: 'a.db/collections/c/schema.json.tmp'", StoreUnusable),
        ("[Errno 30] Read-only file system: 'a.db/x'", StoreUnusable),
        ("schema file 'a.db/schema.json' is not valid JSON: Invalid \\escape: line 247 column 43", Damaged),
        ("'utf-8' codec can't decode byte 0xe6 in position 3275: invalid continuation byte", Damaged),
        ("Expecting property name enclosed in double quotes: line 2 column 2 (char 3)", Damaged),
    ],
)
def test_what_milvus_lite_says_of_its_files(message: str, kind: type[OutcropError]) -> None:
    from pymilvus.exceptions import MilvusException

    mapped = translate(MilvusException(message=message), "list collections", "a.db")
    assert type(mapped) is kind and "a.db" in str(mapped) and "choose another --uri" in str(mapped)
    assert type(translate(MilvusException(message=message), "list collections", "http://127.0.0.1:1")) is OutcropError


def test_without_patience_the_first_error_is_told() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise StoreUnreachable("away")

    with pytest.raises(StoreUnreachable, match="away"):
        patiently(call, 0.0)
    assert len(calls) == 1
    with pytest.raises(StoreUnreachable, match="away"):
        patiently(call, 0.7)
    assert len(calls) == 3


def test_errors_within_a_call_are_one_line_and_keep_their_cause(lite_uri: str) -> None:
    with Store.connect(lite_uri) as store:
        with pytest.raises(OutcropError, match=r"^cannot look: ") as caught, store.calling("look"):
            store.client.describe_collection("absent")
        assert "\n" not in str(caught.value)
        assert type(caught.value.__cause__).__module__.startswith("pymilvus")
        with pytest.raises(ZeroDivisionError), store.calling("divide"):
            _ = 1 / 0
