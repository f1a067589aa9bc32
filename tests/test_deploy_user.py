"""Outcrop's own user in Milvus (deploy/milvus-user.py), on a real server that takes only known users: its role is enough for
everything Outcrop does, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from commands import run
from milvus_server import GUARDED_TOKEN
from pictures import write_dataset
from pymilvus import MilvusClient, MilvusException

SCRIPT = Path(__file__).parents[1] / "deploy/milvus-user.py"
PASSWORD = "Fuchsbau-2291"


def make(uri: str, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    """What the script says, with the variables that compose would give it."""
    given = {
        "PATH": os.environ["PATH"],
        "OUTCROP_URI": uri,
        "MILVUS_ROOT_PASSWORD": GUARDED_TOKEN.partition(":")[2],
        "MILVUS_USER": "outcrop",
        "MILVUS_USER_PASSWORD": PASSWORD,
        **changed,
    }
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=120, check=False, env=given
    )


@pytest.fixture(scope="module")
def made(guarded: str) -> str:
    done = make(guarded)
    assert done.returncode == 0, done.stderr
    assert "user outcrop made," in done.stdout and PASSWORD not in done.stdout + done.stderr
    return guarded


def test_a_second_run_changes_nothing(made: str) -> None:
    done = make(made)
    assert (done.returncode, done.stderr) == (0, "")
    assert "user outcrop was there, 0 privileges granted" in done.stdout


def test_the_role_is_enough_for_everything_outcrop_does(
    made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTCROP_TOKEN", f"outcrop:{PASSWORD}")
    registry = write_dataset(tmp_path, {"250918092555_300": 3})
    place = ("--uri", made, "--state", tmp_path / "state")
    ingest = ("--model", "efficientnet_lite0", "--registry", registry, *place, "--json")
    assert run("ingest", "dataset", "jamshill_image", *ingest).json["embedded"] == 3
    run("query", "dataset", "jamshill_image", "-k", "2", "--registry", registry, *place)
    run("collection", "describe", *place)
    run("collection", "verify", *place)
    run("collection", "doctor", *place)
    run("collection", "index", "outcrop", "FLAT", *place)
    run("collection", "export", "outcrop", tmp_path / "all.parquet", *place)
    run("collection", "import", tmp_path / "all.parquet", "--to", "outcrop_drill", *place)
    run("collection", "release", "outcrop_drill", *place)
    run("collection", "load", "outcrop_drill", *place)
    run("collection", "compact", "outcrop_drill", *place)
    run("collection", "drop", "outcrop_drill", "--yes", *place)
    run("collection", "drop", "outcrop", "--yes", *place)


def test_the_role_is_not_enough_for_anything_else(made: str) -> None:
    client = MilvusClient(uri=made, token=f"outcrop:{PASSWORD}", timeout=30)
    for forbidden in (
        lambda: client.list_users(),
        lambda: client.create_user("another", "Dachsbau-1"),
        lambda: client.create_role("another"),
        lambda: client.grant_role("outcrop", "admin"),
    ):
        with pytest.raises((MilvusException, grpc.RpcError), match=r"(?i)permission|privilege"):
            forbidden()


def test_wrong_passwords_and_missing_ones_are_said(made: str) -> None:
    wrong = make(made, MILVUS_ROOT_PASSWORD="Wiesel-7781")
    assert wrong.returncode == 6 and "refuses root" in wrong.stderr and "Wiesel" not in wrong.stderr
    other = make(made, MILVUS_USER_PASSWORD="Marder-9943")
    assert other.returncode == 6 and "another password" in other.stderr and "--renew" in other.stderr
    missing = make(made, MILVUS_USER_PASSWORD="")
    assert missing.returncode == 3 and "MILVUS_USER_PASSWORD is not set" in missing.stderr
    away = make("http://127.0.0.1:1", "--wait", "0")
    assert away.returncode == 5 and "no answer" in away.stderr


def test_another_password_can_be_given(made: str) -> None:
    renewed = make(made, "--renew", MILVUS_USER_PASSWORD="Marder-9943")
    assert renewed.returncode == 0 and "user outcrop made anew" in renewed.stdout, renewed.stderr
    MilvusClient(uri=made, token="outcrop:Marder-9943", timeout=30).list_collections()
    assert make(made, "--renew").returncode == 0
