"""A real Redis for the tests: on a free port of the loopback, in a folder of its own, nothing kept."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from milvus_server import free_ports


class RedisServer:
    """One server; `password` where one is wanted."""

    def __init__(self, folder: Path, password: str = "") -> None:
        (self.port,) = free_ports(1)
        words = [shutil.which("redis-server") or "redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        words += ["--save", "", "--appendonly", "no", "--dir", str(folder), "--protected-mode", "no"]
        words += ["--requirepass", password] if password else []
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"redis-server does not answer on port {self.port}")

    @property
    def uri(self) -> str:
        """Its address, without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
