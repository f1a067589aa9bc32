"""A real Milvus server for the tests, without a container: the binary of the PyPI package `milvus` (2.3.5).

Every port is a free one and the embedded etcd has its own, so that it stands beside any other Milvus on the machine.
It listens on all interfaces: this version cannot be told otherwise.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import lzma
import os
import platform
import random
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT_TOKEN = "root:Milvus"
"""User and password of a new server with authorization."""
GUARDED_TOKEN = "root:Geheim-4711xyz"
"""User and password of the server with authorization that tests share."""
DEADLINE = 120.0
"""Seconds within which a server must answer."""
PARTS = ("PROXY", "ROOTCOORD", "QUERYCOORD", "QUERYNODE", "INDEXCOORD", "INDEXNODE", "DATACOORD", "DATANODE")
"""The server's parts, which speak to each other over the loopback."""


def why_not() -> str:
    """Why this machine cannot run the server ('' where it can)."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"the package milvus==2.3.5 is for Linux on x86-64, this is {platform.system()} on {platform.machine()}"
    if importlib.util.find_spec("milvus") is None:
        return "the package milvus is not installed; run: pip install -e '.[server]'"
    return ""


@functools.cache
def _binaries() -> Path:
    """A folder with the server's binaries, unpacked once for all servers of a test run and removed at its end."""
    import milvus

    packed = Path(milvus.__file__).parent / "data/bin"
    folder = Path(tempfile.mkdtemp(prefix="outcrop-milvus-bin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for source in packed.glob("*.lzma"):
        target = folder / source.stem
        with lzma.open(source) as reader, open(target, "wb") as writer:
            shutil.copyfileobj(reader, writer)
        target.chmod(0o755)
    return folder


class MilvusServer:
    """One server over one folder. After `kill` or `stop`, `start` goes on with the same ports and data.

    With `authorization` it takes only known users; the first is `ROOT_TOKEN`. `more` are settings, as variables.
    """

    def __init__(self, folder: Path, authorization: bool = False, more: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._more = dict(more or {})
        self.authorization = authorization
        self.log = folder / "server.log"
        self.port = 0
        self._metrics = 0
        self._environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The address that clients use."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of the running server, or None."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the server and returns when it answers.

        Raises:
            RuntimeError: it ended, or did not answer within `DEADLINE`; the end of its log is told.
        """
        assert self._process is None, "it is running"
        _ask_sooner()
        if not self.port:
            self._configure()
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*_dies_with_us(), str(_binaries() / "milvus"), "run", "standalone"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the test run must not end it before `stop` does
            )
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Ends the server as a power cut would (SIGKILL). It is one process and has no children."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def stop(self) -> None:
        """Ends the server: asks first, then insists."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(3)
        self.kill()

    def _configure(self) -> None:
        """Chooses the ports and writes the configuration, by the package's own template."""
        from milvus import MilvusServerConfig

        config = MilvusServerConfig()
        names = [name for name in config.configurable_items if name.endswith("_port")]
        *ports, metrics, peer = free_ports(len(names) + 2)
        chosen = dict(zip(names, ports, strict=True))
        self.folder.mkdir(parents=True, exist_ok=True)
        config.update(data_dir=str(self.folder), **chosen)
        config.set("authorization_enabled", self.authorization)
        config.resolve()
        client = f"http://127.0.0.1:{chosen['etcd_port']}"
        etcd = self.folder / "configs/etcd.yaml"
        etcd.write_text(
            f"listen-client-urls: {client}\nadvertise-client-urls: {client}\n"
            f"listen-peer-urls: http://127.0.0.1:{peer}\n"
            f"initial-advertise-peer-urls: http://127.0.0.1:{peer}\n"
            f"initial-cluster: default=http://127.0.0.1:{peer}\n"
        )
        self.port, self._metrics = chosen["proxy_port"], metrics
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            "LD_LIBRARY_PATH": str(_binaries()),
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(metrics),
            "MILVUS_RUN_DIR": str(self.folder / "run"),
            "ETCD_CONFIG_PATH": str(etcd),
            # Tests wait for what was just written, and make many collections; in brackets the usual values.
            "PROXY_TIMETICKINTERVAL": "20",  # ms (200): what reads what was just written waits for one or two
            "QUERYCOORD_CHECKINTERVAL": "100",  # ms (1000)
            "QUERYCOORD_CHECKSEGMENTINTERVAL": "100",  # ms (1000)
            "QUERYCOORD_CHECKCHANNELINTERVAL": "100",  # ms (1000)
            "QUERYCOORD_CHECKINDEXINTERVAL": "500",  # ms (10000)
            "QUERYCOORD_DISTPULLINTERVAL": "100",  # ms (500)
            "QUERYCOORD_UPDATENEXTTARGETINTERVAL": "0.3",  # s (10): a flushed segment is served from then on
            "QUERYCOORD_LEADERVIEWUPDATEINTERVAL": "0.2",  # s (1)
            "INDEXCOORD_SCHEDULER_INTERVAL": "100",  # ms (1000)
            "DATACOORD_SEGMENT_ASSIGNMENTEXPIRATION": "100",  # ms (2000): a flush waits that long
            "DATANODE_TIMETICK_INTERVAL": "50",  # ms (500): and then for the next of these
            "COMMON_SESSION_TTL": "10",  # seconds until a killed server's leases end and its successor takes over
            **{f"{part}_IP": "127.0.0.1" for part in PARTS},
            **self._more,
        }

    def _wait(self) -> None:
        assert self._process is not None
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            if (code := self._process.poll()) is not None:
                raise RuntimeError(f"the Milvus server ended with {code}; its log ends so:\n{self.tail()}")
            if self._healthy():
                return
            time.sleep(0.2)
        raise RuntimeError(f"the Milvus server did not answer in {DEADLINE:.0f} s; its log ends so:\n{self.tail()}")

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/healthz", timeout=5) as answer:
                if b"OK" not in answer.read():
                    return False
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def tail(self, lines: int = 30) -> str:
        """The last lines of the log."""
        return (
            "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else "(no log)"
        )


class _Sooner:
    """The module `time` of those who ask a server again every half second whether it is done: a tenth of it, for tests."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(0.05 if seconds == 0.5 else seconds)


@functools.cache
def _ask_sooner() -> None:
    """Indexes, flushes, loads and jobs of small collections are done long before the client looks for the first time."""
    from pymilvus.client import grpc_handler
    from pymilvus.settings import Config

    from outcrop.store import bulk, collection, first_load, import_jobs, maintenance

    Config.WaitTimeDurationWhenLoad = 0.05
    for module in (grpc_handler, bulk, collection, first_load, import_jobs, maintenance):
        module.time = _Sooner()  # type: ignore[assignment]


_GIVEN: set[int] = set()
"""The ports that `free_ports` gave away in this process."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different, below those that the system lends to clients.

    A server that is started again must find its port free, and one that starts slowly must get the port that it was promised:
    neither a client's connection nor another test may have taken it meanwhile. So each process of a test run has ports of its
    own, and gives each away once.
    """
    first = 20_000 + 1_500 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8)
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in random.sample(sorted({*range(first, first + 1_500)} - _GIVEN), 500):
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("", port))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                _GIVEN.update(ports)
                return ports
    raise RuntimeError(f"no {count} free ports between {first} and {first + 1_500}")


def _dies_with_us() -> list[str]:
    """What makes the kernel end the server when the test run is killed (util-linux; left out where it is missing)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
