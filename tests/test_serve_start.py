"""What `query serve` sets up before it says that it is ready: the first question must not pay for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from commands import run
from pictures import write_dataset

CAPTURE = "250918092555_300"
ASKED = """
import json, sys
from pathlib import Path
from outcrop.query.service.asked import Asked
from outcrop.query.service.app import application
from outcrop.query.service.engine import Engine
from outcrop.schema.settings import Settings
from starlette.testclient import TestClient

folder = Path(sys.argv[1])
engine = Engine(Settings(uri=str(folder / "outcrop.db"), state=folder / "state"))
client = TestClient(application(engine), base_url="http://127.0.0.1:8421")
assert client.get("/healthz").json()["ready"]
with open(next(folder.glob("town/*/*_0003.jpg")), "rb") as picture:
    upload = engine.uploads.keep(picture.read(), "a.jpg")
calls = []
client_of_milvus = engine.collection.store.client
load = type(client_of_milvus).load_collection
type(client_of_milvus).load_collection = lambda *words, **named: calls.append("load") or load(*words, **named)
before = set(sys.modules)
hits = engine.search(Asked(picture=upload.digest)).results[0].hits
print(json.dumps({"hits": len(hits), "calls": calls, "modules": sorted(set(sys.modules) - before)}))
engine.close()
"""


def test_the_first_question_loads_nothing(tmp_path: Path) -> None:
    write_dataset(tmp_path, {CAPTURE: 4}, name="town", root="town")
    made = run(
        *("ingest", "dataset", "town", "--registry", tmp_path / "data_key.json", "--model", "efficientnet_lite0"),
        *("--uri", tmp_path / "outcrop.db", "--state", tmp_path / "state", "--quiet"),
    )
    assert made.code == 0, made.err
    done = subprocess.run([sys.executable, "-c", ASKED, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["hits"] == 4 and said["calls"] == []
    late = [name for name in said["modules"] if not name.startswith("outcrop.")]
    assert len(late) < 20, late
