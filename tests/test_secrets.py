"""Tokens and certificates: they open the server, and are never shown, logged or written."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Outcome, run
from milvus_server import GUARDED_TOKEN, MilvusServer, why_not
from pictures import write_dataset

from outcrop.schema.errors import Refused, StoreUnreachable
from outcrop.schema.settings import Settings, read_settings
from outcrop.store.connection import Store
from outcrop.store.tls import Tls

MODEL = ("--model", "efficientnet_lite0")
ROOT = str(Path(__file__).parents[1])
TOKEN = GUARDED_TOKEN
PASSWORD = TOKEN.partition(":")[2]


def written(folder: Path) -> str:
    """Every byte of every file below a folder that a command may have written."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".jpg"]
    return "\n".join(path.read_bytes().decode(errors="replace") for path in files)


@pytest.fixture
def heard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[list[Outcome]]:
    """Outcomes put here, everything logged, and everything written are searched for the password afterwards."""
    outcomes: list[Outcome] = []
    with caplog.at_level(logging.DEBUG):
        yield outcomes
    assert outcomes
    for outcome in outcomes:
        assert PASSWORD not in outcome.out + outcome.err
    assert PASSWORD not in caplog.text
    assert PASSWORD not in written(tmp_path)


def test_the_right_token(guarded: str, heard: list[Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_TOKEN", TOKEN)
    monkeypatch.setenv("OUTCROP_URI", guarded)
    write_dataset(tmp_path, {"a_300": 3}, name="town")
    (tmp_path / "images/a_300/a_300_0002.jpg").write_bytes(b"broken")  # so that a ledger is written
    commands: list[tuple[Any, ...]] = [
        ("ingest", "dataset", "town", *MODEL, "--verbose"),
        ("query", "dataset", "town", "--json", "--explain"),
        ("collection", "list", "--json"),
        ("collection", "describe", "--verbose"),
        ("collection", "doctor", "--verbose"),
        ("collection", "export", "outcrop", "x.parquet", "--verbose"),
        ("collection", "verify", "--metrics-file", "m.prom"),
        ("collection", "audit", "--json"),
        ("ingest", "status", "last"),
        ("collection", "drop", "outcrop"),
    ]
    codes = []
    for command in commands:
        heard.append(run(*command))
        codes.append(heard[-1].code)
    assert codes == [4, 0, 0, 0, 0, 0, 0, 4, 0, 6], [outcome.err for outcome in heard]
    assert "broken" in written(tmp_path / ".outcrop") or "0002" in written(tmp_path / ".outcrop")


@pytest.mark.parametrize("token", [None, "root:Milvus", "root:wrong", "nobody:nothing", "an-api-key"])
def test_no_token_or_a_wrong_one(
    guarded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str | None
) -> None:
    if token is not None:
        monkeypatch.setenv("OUTCROP_TOKEN", token)
    write_dataset(tmp_path, {"a_300": 1}, name="town")
    for command in (("collection", "list"), ("ingest", "dataset", "town", *MODEL), ("query", "item", "x")):
        outcome = run(*command, "--uri", guarded, "--verbose")
        line = last_line(outcome, 6)
        assert "does not accept the token; set OUTCROP_TOKEN" in line and guarded in line
        if token is not None:
            assert token not in outcome.out + outcome.err
    assert not (tmp_path / ".outcrop").exists()
    outcome = run("collection", "doctor", "--uri", guarded, "--json")
    assert outcome.code != 0 and "OUTCROP_TOKEN" in outcome.json["findings"][-1]["seen"]


def last_line(outcome: Outcome, code: int) -> str:
    """The error's line (with --verbose tracebacks stand before it)."""
    assert outcome.code == code, outcome.err
    return outcome.err.splitlines()[-1]


def test_passwords_in_addresses(guarded: str, heard: list[Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no token, and are not shown either."""
    address = guarded.replace("://", f"://root:{PASSWORD}@")
    for more in (("--verbose",), ("--json",)):
        heard.append(run("collection", "list", "--uri", address, *more))
        heard.append(run("collection", "doctor", "--uri", address, *more))
    monkeypatch.setenv("OUTCROP_TOKEN", TOKEN)
    for command in (("list",), ("doctor",), ("describe", "nothing")):
        heard.append(run("collection", *command, "--uri", address, "--verbose"))
    assert [outcome.code for outcome in heard[-3:]] == [0, 0, 3]
    nowhere = f"http://root:{PASSWORD}@127.0.0.1:9"
    for command in (("list",), ("doctor",), ("copy", "outcrop", "--to-uri", address)):
        heard.append(run("collection", *command, "--uri", nowhere, "--timeout", 2, "--verbose"))
        assert last_line(heard[-1], 5)


def test_the_token_of_the_target_of_a_copy(
    guarded: str, lite_uri: str, heard: list[Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    from moving import items, make

    make(lite_uri, "mine", items(5))
    monkeypatch.setenv("OUTCROP_TO_TOKEN", "root:wrong")
    command = ("collection", "copy", "mine", "--uri", lite_uri, "--to-uri", guarded, "--verbose")
    heard.append(run(*command))
    assert "does not accept the token" in last_line(heard[-1], 6)
    assert "root:wrong" not in heard[-1].err
    monkeypatch.setenv("OUTCROP_TO_TOKEN", TOKEN)
    heard.append(run(*command))
    assert heard[-1].code == 0, heard[-1].err


def test_settings_and_errors_show_no_token(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_TOKEN", f"wrong:{PASSWORD}")
    settings = Settings(uri=guarded)
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert PASSWORD not in shown
    with pytest.raises(Refused) as caught:
        Store.of(settings)
    error: BaseException | None = caught.value
    seen: set[int] = set()  # grpc's errors may be their own context
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        assert PASSWORD not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "uri", "said"),
    [
        ({"CA": "nowhere.pem"}, "https://127.0.0.1:9", "OUTCROP_TLS_CA: there is no file nowhere.pem"),
        ({"CA": "there.pem"}, "http://127.0.0.1:9", "write https://"),
        ({"CA": "there.pem"}, "./outcrop.db", "write https://"),
        ({"CERT": "there.pem"}, "https://127.0.0.1:9", "OUTCROP_TLS_CERT and OUTCROP_TLS_KEY go together"),
        ({"KEY": "there.pem"}, "https://127.0.0.1:9", "OUTCROP_TLS_CERT and OUTCROP_TLS_KEY go together"),
        ({"CERT": "there.pem", "KEY": "there.pem"}, "https://127.0.0.1:9", "needs OUTCROP_TLS_CA"),
        ({"CA": "there.pem", "CERT": "there.pem", "KEY": "gone.pem"}, "https://127.0.0.1:9", "no file gone.pem"),
    ],
)
def test_tls_settings_that_do_not_fit(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], uri: str, said: str
) -> None:
    Path("there.pem").write_text("a certificate")
    for name, value in environment.items():
        monkeypatch.setenv(f"OUTCROP_TLS_{name}", value)
    assert said in run("collection", "list", "--uri", uri, "--timeout", 2).error(3)
    assert not Path("outcrop.db").exists()


def test_tls_arguments(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text("x")
    ca, cert, key = (tmp_path / name for name in ("ca", "cert", "key"))
    assert Tls().arguments("http://h") == {}
    assert Tls(ca=ca, server_name="milvus").arguments("https://h") == {
        "server_pem_path": str(ca),
        "server_name": "milvus",
    }
    assert Tls(ca, cert, key).arguments("https://h") == {
        "client_pem_path": str(cert),
        "client_key_path": str(key),
        "ca_pem_path": str(ca),
    }


class TlsServer(MilvusServer):
    """A server that speaks TLS with a certificate of its own (and, with `mutual`, wants one of its clients)."""

    mutual = False

    @property
    def uri(self) -> str:
        return super().uri.replace("http://", "https://")

    def _configure(self) -> None:
        super()._configure()
        self._environment |= {
            "COMMON_SECURITY_TLSMODE": "2" if self.mutual else "1",
            "TLS_SERVERPEMPATH": str(self.folder / "server.pem"),
            "TLS_SERVERKEYPATH": str(self.folder / "server.key"),
            "TLS_CAPEMPATH": str(self.folder / "ca.pem"),
            "PROXY_HTTP_ENABLED": "false",
        }


def certificate(folder: Path, name: str, subject: str, issuer: str | None = None) -> None:
    """``name.pem`` and ``name.key``, signed by itself or by the issuer."""
    here = {"cwd": folder, "check": True, "capture_output": True}
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")
    if issuer is None:
        subprocess.run(["openssl", "req", "-x509", *key, "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={subject}"], **here)  # type: ignore[call-overload]  # fmt: skip
        return
    (folder / "names").write_text(f"subjectAltName=DNS:{subject},IP:127.0.0.1\n")
    subprocess.run(["openssl", "req", *key, "-out", f"{name}.csr", "-subj", f"/CN={subject}"], **here)  # type: ignore[call-overload]
    sign = ["openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"]
    subprocess.run([*sign, "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem"], **here)  # type: ignore[call-overload]


@pytest.fixture(scope="module", params=[False, True], ids=["tls", "mutual"])
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """A server with TLS; its folder holds ca.pem, client.pem, client.key and a foreign.pem that signed nothing."""
    if reason := why_not():
        pytest.skip(f"no Milvus server: {reason}")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    server = TlsServer(tmp_path_factory.mktemp("secured"))
    server.mutual = request.param
    certificate(server.folder, "ca", "outcrop-ca")
    certificate(server.folder, "foreign", "foreign-ca")
    certificate(server.folder, "server", "localhost", "ca")
    certificate(server.folder, "client", "outcrop", "ca")
    server.start()
    yield server
    server.kill()


def listed(uri: str, timeout: float = 60, **environment: str) -> Outcome:
    """What `collection list` says with these settings of TLS."""
    with pytest.MonkeyPatch.context() as settings:
        for name, value in environment.items():
            settings.setenv(f"OUTCROP_TLS_{name}", value)
        return run("collection", "list", "--json", "--uri", uri, "--timeout", timeout)


def test_tls(secured: TlsServer) -> None:
    ca, foreign, client, key = (str(secured.folder / n) for n in ("ca.pem", "foreign.pem", "client.pem", "client.key"))
    Path("garbage.pem").write_text("no certificate")
    by_name = secured.uri.replace("127.0.0.1", "localhost")
    plain = secured.uri.replace("https://", "http://")
    ours = {"CERT": client, "KEY": key} if secured.mutual else {}
    good = [
        listed(secured.uri, CA=ca, **ours),
        listed(by_name, CA=ca, **ours),
        listed(secured.uri, CA=ca, SERVER_NAME="localhost", **ours),
    ]
    for outcome in good:
        assert outcome.code == 0, outcome.err
        assert outcome.json["store"].startswith("Milvus 2.3.5 at https://")
    bad = [
        listed(secured.uri, 1, CA=foreign, **ours),
        listed(secured.uri, 1, CA="garbage.pem", **ours),
        listed(secured.uri, 1, CA=ca, SERVER_NAME="elsewhere.example", **ours),
        listed(plain, 1),
        *([listed(secured.uri, 1, CA=ca)] if secured.mutual else []),
    ]
    for outcome in bad:
        line = outcome.error(5)
        assert "no answer from http" in line and secured.uri.partition("://")[2] in line and len(line) < 600
    assert os.listdir() == ["garbage.pem"]


def test_tls_of_one_connection_does_not_vouch_for_the_next(secured: TlsServer) -> None:
    """pymilvus would share the channel of an open connection with the next one to the same address, whatever its certificates."""
    ca, foreign, client, key = (secured.folder / n for n in ("ca.pem", "foreign.pem", "client.pem", "client.key"))
    ours = {"cert": client, "key": key} if secured.mutual else {}
    with Store.connect(secured.uri, tls=Tls(ca=ca, **ours)) as first:
        with pytest.raises(StoreUnreachable):
            Store.connect(secured.uri, timeout=1, tls=Tls(ca=foreign, **ours))
        with pytest.raises(StoreUnreachable):
            Store.connect(secured.uri.replace("https://", "http://"), timeout=1)
        assert first.client.list_collections() == []


def test_settings_do_not_show_a_password_of_the_address() -> None:
    settings = read_settings(uri="http://root:hunter2@127.0.0.1:19530")
    assert "hunter2" not in repr(settings) + str(settings)
