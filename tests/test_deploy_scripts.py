"""The scripts of the deployment, run where they can be: init.sh for real, pin-images.sh with a registry's client in disguise,
init.ps1 as far as its grammar goes; and every shell script through shellcheck."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from deployment import ROOT, SECRET, example_variables, installed, tag_fault

from outcrop.schema.registry import read_registry

SCRIPTS = sorted([*(ROOT / "deploy").rglob("*.sh"), ROOT / "sample/demo.sh", ROOT / ".ci/run"])
SECRETS = ("MILVUS_ROOT_PASSWORD", "MILVUS_USER_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "SERVE_TOKEN")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of deploy/ as it is checked out."""
    kept = shutil.ignore_patterns(".env", "data", "*.pem", "*.key", "images.yml")
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=kept)
    shutil.copy(ROOT / "Dockerfile", tmp_path)
    return tmp_path / "deploy"


def run(script: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": path or os.environ["PATH"], "HOME": str(script.parent)},
    )


# --- init.sh -------------------------------------------------------------------------------------------------------------


def test_init_makes_folders_a_registry_and_secrets_that_nobody_sees(folder: Path) -> None:
    done = run(folder / "init.sh")
    assert (done.returncode, done.stderr) == (0, "")
    variables = example_variables((folder / ".env").read_text())
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    secrets = [variables[name] for name in SECRETS]
    assert all(re.fullmatch(r"[0-9a-f]{32}", secret) for secret in secrets) and len(set(secrets)) == len(secrets)
    assert not any(secret in done.stdout for secret in secrets)
    assert variables["COMPOSE_PROFILES"] == "cpu"
    assert int(variables["APP_UID"]) == (os.getuid() or 10001)
    assert 1 <= int(variables["MILVUS_CPUS"]) <= (os.cpu_count() or 1)
    for name in ("DATASET_HOST", "REFERENCE_HOST", "EXPORT_HOST", "QUERY_HOST", "WEIGHTS_HOST"):
        made = folder / variables[name]
        assert made.is_dir() and made.stat().st_uid == int(variables["APP_UID"]), name
        assert stat.S_IMODE(made.stat().st_mode) & 0o005 == 0o005, f"{name}: the container could not look into it"
    assert read_registry(folder / variables["REGISTRY_HOST"]).datasets == {}
    for hint in ("docker compose up -d --wait", "milvus-user", "run --rm demo", "/queries/photo.jpg", "docs/models.md"):
        assert hint in done.stdout


def test_init_twice_changes_nothing(folder: Path) -> None:
    first = run(folder / "init.sh")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = run(folder / "init.sh")
    assert (again.returncode, again.stderr) == (0, "") and "made" not in again.stdout
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert again.stdout.strip() == first.stdout[first.stdout.index("Next") :].strip()


def test_init_leaves_what_an_older_env_says(folder: Path) -> None:
    """What is new is added; nobody's profile, user or password is changed."""
    old = "MILVUS_ROOT_PASSWORD='chosen $ by me'\nAPP_UID=1000\nOUTCROP_TOKEN=root:x\nDATASET_HOST=./else where\nS3_SECRET_KEY="
    (folder / ".env").write_text(old)
    done = run(folder / "init.sh")
    assert done.returncode == 0, done.stderr
    variables = example_variables((folder / ".env").read_text())
    assert variables["MILVUS_ROOT_PASSWORD"] == "'chosen $ by me'" and variables["APP_UID"] == "1000"
    assert variables["OUTCROP_TOKEN"] == "root:x" and variables["COMPOSE_PROFILES"] == ""
    assert variables["MILVUS_USER_PASSWORD"] and variables["S3_SECRET_KEY"] and (folder / "else where").is_dir()
    assert set(variables) == set(example_variables((folder / ".env.example").read_text()))
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600


def test_init_for_a_gpu_and_with_nonsense(folder: Path) -> None:
    done = run(folder / "init.sh", "--gpu")
    assert done.returncode == 0 and "docker compose build app " in done.stdout
    assert example_variables((folder / ".env").read_text())["COMPOSE_PROFILES"] == "gpu"
    wrong = run(folder / "init.sh", "--cuda")
    assert wrong.returncode == 2 and "usage" in wrong.stderr


def test_init_for_powershell_reads_as_powershell_and_does_the_same() -> None:
    """Without PowerShell it cannot be run here: its grammar, and the names it works with."""
    tree_sitter = pytest.importorskip("tree_sitter", reason="tree-sitter is not installed: init.ps1 was not parsed")
    grammar = pytest.importorskip("tree_sitter_powershell", reason="its grammar is missing: init.ps1 was not parsed")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    text = (ROOT / "deploy/init.ps1").read_text()
    assert not parser.parse(text.encode()).root_node.has_error
    assert parser.parse(text.replace("}", "", 1).encode()).root_node.has_error, "the parser finds no fault in anything"
    shell = (ROOT / "deploy/init.sh").read_text()
    names = set(example_variables((ROOT / "deploy/.env.example").read_text()))
    used = {name for name in names if re.search(rf"\b{name}\b", shell)} - {"APP_UID", "APP_GID", "OUTCROP_MODEL"}
    assert len(used) > 12 and not [name for name in used if not re.search(rf"\b{name}\b", text)]


# --- pin-images.sh -------------------------------------------------------------------------------------------------------


def disguised(folder: Path, name: str, body: str) -> str:
    """A PATH on which a program of this name is a script."""
    tools = folder / "tools"
    tools.mkdir()
    (tools / name).write_text(f"#!/bin/sh\n{body}\n")
    (tools / name).chmod(0o755)
    needed = ("bash", "sh", "sed", "head", "date", "dirname", "mv", "openssl", "cat", "env")
    for tool in needed:
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    return str(tools)


@pytest.mark.parametrize(
    ("client", "body"),
    [
        ("crane", f"echo sha256:{'ab' * 32}"),
        ("skopeo", "printf '{\"schemaVersion\": 2}'"),
        ("docker", f'[ "$1 $2 $3" = "buildx imagetools inspect" ] && echo sha256:{"cd" * 32}'),
    ],
)
def test_images_are_pinned_by_whichever_client_there_is(folder: Path, client: str, body: str) -> None:
    done = run(folder / "pin-images.sh", path=disguised(folder, client, body))
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load((folder / "images.yml").read_text())["services"]
    assert set(services) == {"standalone-cpu", "standalone-gpu", "attu"}
    compose = yaml.safe_load((folder / "milvus-compose.yml").read_text())["services"]
    unpinned = {name for name, one in compose.items() if "@sha256:" not in one["image"] and not one.get("build")}
    assert unpinned == set(services)
    for name, service in services.items():
        assert not tag_fault(service["image"]) and "@sha256:" in service["image"], name
    assert services["standalone-gpu"]["image"].partition("@")[0].endswith("-gpu")


def test_bases_are_resolved_too(folder: Path) -> None:
    done = run(folder / "pin-images.sh", "--bases", path=disguised(folder, "crane", f"echo sha256:{'ab' * 32}"))
    assert done.returncode == 0, done.stderr
    assert [line.count("@sha256:") for line in done.stdout.splitlines()] == [1, 1]


@pytest.mark.parametrize(
    ("client", "body", "said"),
    [
        ("crane", "echo nonsense", "no digest, got 'nonsense'"),
        ("crane", "echo denied >&2; exit 1", "denied"),
        ("other", ":", "none of crane, skopeo and docker"),
    ],
)
def test_no_file_is_written_without_digests(folder: Path, client: str, body: str, said: str) -> None:
    done = run(folder / "pin-images.sh", path=disguised(folder, client, body))
    assert done.returncode != 0 and said in done.stderr
    assert not (folder / "images.yml").exists()


# --- tls/make-certificates.sh --------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_certificates_are_made_once_and_hold(folder: Path) -> None:
    done = run(folder / "tls/make-certificates.sh", "10.0.0.5", "milvus.example")
    assert done.returncode == 0, done.stderr
    tls = folder / "tls"

    def openssl(*arguments: str | Path) -> str:
        said = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, timeout=60)
        return said.stdout + said.stderr

    for certificate, purpose in (("server/server.pem", "sslserver"), ("client/client.pem", "sslclient")):
        other = "sslclient" if purpose == "sslserver" else "sslserver"
        said = openssl("verify", "-CAfile", tls / "client/ca.pem", "-purpose", purpose, tls / certificate)
        assert said.strip().endswith(": OK"), said
        assert "OK" not in openssl("verify", "-CAfile", tls / "client/ca.pem", "-purpose", other, tls / certificate)
    for name in ("milvus", "localhost", "milvus.example"):
        assert "does match" in openssl("x509", "-in", tls / "server/server.pem", "-noout", "-checkhost", name)
    assert "does match" in openssl("x509", "-in", tls / "server/server.pem", "-noout", "-checkip", "10.0.0.5")
    for key in tls.rglob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600, key
    assert not (tls / "server/ca.key").exists() and not (tls / "client/server.key").exists()
    before = {path: path.read_bytes() for path in tls.rglob("*.pem")}
    assert run(folder / "tls/make-certificates.sh").returncode == 0
    assert {path: path.read_bytes() for path in tls.rglob("*.pem")} == before


# --- install.sh ----------------------------------------------------------------------------------------------------------


def checkout(folder: Path, refused: str = "") -> Path:
    """A checkout whose .venv only notes what pip is asked for; pip refuses what has `refused` in it."""
    (folder / "deploy").mkdir(exist_ok=True)
    shutil.copy(ROOT / "deploy/install.sh", folder / "deploy")
    shutil.copy(ROOT / "constraints.txt", folder)
    (folder / ".venv/bin").mkdir(parents=True)
    python = folder / ".venv/bin/python"
    python.write_text(
        "#!/bin/bash\n"
        f'if [ "$2" = pip ]; then echo "$*" >>"{folder}/asked"; '
        f'case "$*" in *"{refused or "nothing"}"*) echo "no such thing" >&2; exit 1;; esac; exit 0; fi\n'
        f'if [ "$1" = -c ]; then exit 1; fi\nexec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    return folder


def install(folder: Path, *arguments: str, **changed: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """What install.sh says, and what it asked pip for."""
    done = subprocess.run(
        [folder / "deploy/install.sh", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], **changed},
    )
    asked = folder / "asked"
    return done, asked.read_text().splitlines() if asked.exists() else []


def has_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


@pytest.mark.skipif(sys.platform != "linux" or has_driver(), reason="this machine has an NVIDIA driver, or is no Linux")
@pytest.mark.parametrize("refused", ["", "+cpu"])
def test_without_a_driver_the_build_for_the_processor_is_tried_first(tmp_path: Path, refused: str) -> None:
    done, asked = install(checkout(tmp_path, refused))
    assert done.returncode == 0, done.stderr
    assert len(asked) == 2
    assert re.search(r"--no-deps torch==[\d.]+\+cpu torchvision==[\d.]+\+cpu$", asked[0])
    assert asked[1].endswith("-c constraints.txt -e .")
    assert ("taking the usual one" in done.stderr) == bool(refused)
    assert "no such thing" not in done.stderr


@pytest.mark.parametrize("refused", ["", "--index-url"])
def test_an_index_for_torch_is_asked_and_may_fail(tmp_path: Path, refused: str) -> None:
    done, asked = install(checkout(tmp_path, refused), TORCH_INDEX="file:///builds/of/torch")
    assert done.returncode == 0, done.stderr
    assert asked[0].endswith("-c constraints.txt --no-deps --index-url file:///builds/of/torch torch torchvision")
    assert asked[1].endswith("-e .") and len(asked) == 2
    assert ("taking the usual build" in done.stderr) == bool(refused)


def test_what_is_needed_is_said_first_and_failures_end_it(tmp_path: Path) -> None:
    done, _ = install(checkout(tmp_path, "-e ."))
    assert done.returncode == 1 and "no such thing" in done.stderr
    first = done.stderr.splitlines()[0]
    assert re.search(r"about \d+ GB of disk \(\d+ GB are free\), up to 3 GB to download, some minutes", first)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "df").write_text("#!/bin/sh\necho header\necho disk 100 99 1048576 99% /\n")
    (tools / "df").chmod(0o755)
    done, asked = install(checkout(tmp_path), PATH=f"{tools}:{os.environ['PATH']}")
    assert done.returncode == 3 and re.search(r"has 1 GB free and \d+ GB are needed", done.stderr) and asked == []


def test_extras_are_passed_on(tmp_path: Path) -> None:
    done, asked = install(checkout(tmp_path), "dev,server")
    assert done.returncode == 0 and asked[-1].endswith("-e .[dev,server]")


# --- all of them ---------------------------------------------------------------------------------------------------------


def test_shellcheck_finds_nothing() -> None:
    shellcheck = installed("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: the scripts were run, not linted")
    answer = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert len(SCRIPTS) >= 5


def test_no_script_prints_a_secret() -> None:
    for script in [*SCRIPTS, ROOT / "deploy/init.ps1"]:
        for line in script.read_text().splitlines():
            if re.match(r"\s*(echo|printf|Write-Output)\b", line):
                names = re.findall(r"\$\{?(\w+)", line)
                assert not [name for name in names if SECRET.search(name.upper())], f"{script.name}: {line}"
