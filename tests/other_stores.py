"""Emulators of Google's and Azure's object stores on this machine: gcp-storage-emulator (PyPI) and Azurite (npm)."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from milvus_server import free_ports

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and key of every Azurite: they are in its documentation, and open nothing else."""
DEADLINE = 120.0
"""Seconds within which an emulator must answer."""


def why_not(scheme: str) -> str:
    """Why there can be no emulator of this scheme's store; '' where there can."""
    packages = {"gs": ("gcsfs", "gcp_storage_emulator"), "az": ("adlfs",)}[scheme]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    return "" if scheme == "gs" or _azurite() else "azurite-blob is not installed (npm install -g azurite)"


@contextlib.contextmanager
def emulator(scheme: str) -> Iterator[Mapping[str, str]]:
    """A running emulator that keeps objects in memory; gives the environment that leads to it."""
    with _google() if scheme == "gs" else _azure() as environment:
        yield environment


@contextlib.contextmanager
def _google() -> Iterator[Mapping[str, str]]:
    from gcp_storage_emulator.server import create_server

    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    (port,) = free_ports(1)
    server = create_server("127.0.0.1", port, in_memory=True)
    server.start()
    try:
        yield {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}
    finally:
        server.stop()


@contextlib.contextmanager
def _azure() -> Iterator[Mapping[str, str]]:
    (port,) = free_ports(1)
    options = ("--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry")
    command = [str(_azurite()), "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(process, port)
        place = f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
        yield {
            "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};{place}"
        }
    finally:
        process.kill()
        process.wait(30)


def _azurite() -> str | None:
    """Where Azurite is: on the path, or beside the Python that has our packages."""
    places = (None, *(str(Path(each).parents[2] / "bin") for each in sys.path if each.endswith("site-packages")))
    return next((found for place in places if (found := shutil.which("azurite-blob", path=place))), None)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"Azurite did not answer on port {port} ({process.poll()})")
