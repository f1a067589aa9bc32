"""A real Redis for the tests: on a free port of the loopback, in a folder of its own, nothing kept."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

from milvus_server import free_ports
from waiting import until


class RedisServer:
    """One server; `password` where one is wanted."""

    def __init__(self, folder: Path, password: str = "") -> None:
        (self.port,) = free_ports(1)
        words = [shutil.which("redis-server") or "redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        words += ["--save", "", "--appendonly", "no", "--dir", str(folder), "--protected-mode", "no"]
        words += ["--requirepass", password] if password else []
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(self._answers, f"an answer of redis-server on port {self.port}", self._process)
        except AssertionError:
            self.stop()
            raise

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def uri(self) -> str:
        """Its address, without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
