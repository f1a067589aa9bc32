"""The files of the deployment: read, checked, and handed to a compose client and to hadolint where these are installed.

Nothing is started here: there is no container engine, no cluster and no GPU behind these tests. Each check
(`deployment`) lists faults, and each is shown a deliberately broken file too.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deployment import (
    COMPOSE,
    DOCKERFILE,
    EXAMPLE,
    KUBERNETES,
    OPERATIONS,
    ROOT,
    USER_YAML,
    compose_faults,
    environment,
    example_variables,
    installed,
    instructions,
    jobs,
    mounts,
    pod,
    tag_fault,
    values,
)

from outcrop.schema.errors import EXIT_CODES
from outcrop.schema.settings import Settings

# --- the files as they are -----------------------------------------------------------------------------------------------


def test_compose_file_and_example_have_no_faults() -> None:
    assert compose_faults(COMPOSE.read_text(), EXAMPLE.read_text()) == []


def test_every_variable_of_the_example_is_explained() -> None:
    explained = False
    for number, line in enumerate(EXAMPLE.read_text().splitlines(), 1):
        # Neighbours share a comment; an empty line ends it.
        explained = (explained or line.startswith("#")) if line else False
        assert not line or line.startswith("#") or explained, f"line {number}: {line} is not explained"


def test_seed_host_paths_are_carried_over() -> None:
    assert {"DATASET_HOST", "REFERENCE_HOST", "EXPORT_HOST", "WEIGHTS_HOST", "REGISTRY_HOST"} <= set(
        example_variables(EXAMPLE.read_text())
    )
    app = yaml.safe_load(COMPOSE.read_text())["services"]["app"]
    assert {target for _, target, _ in mounts(app)} >= {"/opt/datasets", "/opt/references", "/exports"}


def test_milvus_settings_hold_authorisation_memory_and_segments_but_no_secret() -> None:
    settings = yaml.safe_load(USER_YAML.read_text())
    assert settings["common"]["security"] == {"authorizationEnabled": True}
    assert 0 < settings["gpu"]["initMemSize"] <= settings["gpu"]["maxMemSize"]
    assert settings["dataCoord"]["segment"]["maxSize"] >= 1024
    assert not re.search(r"(?i)^\s*[^#\n]*(password|secretaccesskey)\s*:", USER_YAML.read_text(), re.MULTILINE)
    helm = yaml.safe_load(values()["extraConfigFiles"]["user.yaml"])
    assert {key: settings[key] for key in helm} == helm, "compose and Kubernetes differ"


def test_every_outcrop_variable_is_a_setting() -> None:
    texts = [DOCKERFILE.read_text(), COMPOSE.read_text(), *(p.read_text() for p in KUBERNETES.glob("*.yaml"))]
    compose_only = {"image", "version"}
    given = {name.lower() for text in texts for name in re.findall(r"\bOUTCROP_([A-Z_]+)", text)} - compose_only
    assert given - set(Settings.model_fields) == set()


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of ours in the deployment's files and in docs/operations.md, with where it stands."""
    for manifest in jobs():
        for container in pod(manifest)["spec"]["containers"]:
            yield manifest["kind"], container["command"]
    for service in yaml.safe_load(COMPOSE.read_text())["services"].values():
        test = service.get("healthcheck", {}).get("test", [])
        if "collection" in test:
            yield COMPOSE.name, test[1:]
    for kind, rest in instructions(DOCKERFILE.read_text()):
        if kind in ("HEALTHCHECK", "CMD"):
            yield DOCKERFILE.name, json.loads(rest[rest.index("[") :])
    for block in re.findall(r"^```sh\n(.*?)^```", OPERATIONS.read_text(), re.MULTILINE | re.DOTALL):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            for part in re.split(r"&&|\|\||;|\|", line.partition(" #")[0]):
                if found := re.search(r"(?:^|\sapp(?:-cpu)?\s)\s*((?:ingest|query|collection)\s+[a-z-].*)", part):
                    yield OPERATIONS.name, found[1].split()


def test_every_command_shown_exists() -> None:
    """Names of commands and options; what follows an option is not looked at."""
    typer_main = pytest.importorskip("typer.main")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    if missing := {"ingest", "query", "collection"} - set(scripts):
        pytest.skip(f"pyproject.toml does not install {', '.join(missing)} yet: the commands shown are not checked")
    found = list(commands())
    assert len(found) > 20
    faults = []
    for place, (command, *words) in found:
        words = [word for word in words if word != "--help"]
        if not words:
            continue
        group = typer_main.get_command(importlib.import_module(scripts[command].partition(":")[0]).app)
        if words[0] not in group.commands:
            faults.append(f"{place}: {command} {words[0]}")
            continue
        known = {name for parameter in group.get_command(None, words[0]).params for name in parameter.opts}
        faults += [
            f"{place}: {command} {words[0]} {word}"
            for word in words
            if word.startswith("-") and word.partition("=")[0] not in known
        ]
    assert faults == []


def test_operations_manual_names_every_exit_code_and_every_variable() -> None:
    manual = OPERATIONS.read_text()
    for code in EXIT_CODES:
        assert re.search(rf"^\| {code} \|", manual, re.MULTILINE), f"exit code {code}"
    for variable in (
        "OUTCROP_TOKEN",
        "OUTCROP_TLS_CA",
        "OUTCROP_TLS_CERT",
        "OUTCROP_TLS_KEY",
        "OUTCROP_TLS_SERVER_NAME",
    ):
        assert variable in manual


# --- broken on purpose ---------------------------------------------------------------------------------------------------

COMPOSE_BREAKS = [
    ("ports", '"${BIND:-127.0.0.1}:${MILVUS_PORT', '"${MILVUS_PORT', "open to everybody"),
    ("bind default", "${BIND:-127.0.0.1}:${ATTU_PORT", "${BIND:-0.0.0.0}:${ATTU_PORT", "open to everybody"),
    ("no tag", "rustfs/rustfs:1.0.0", "rustfs/rustfs", "has no tag"),
    ("half a digest", "etcd:v3.5.25@sha256:52f1", "etcd:v3.5.25@sha256:", "has no digest"),
    ("moving tag", "coreos/etcd:v3.5.25", "coreos/etcd:latest", "moves"),
    ("moving default", "${MILVUS_VERSION:-v3.0.4}-gpu", "${MILVUS_VERSION:-latest}-gpu", "moves"),
    ("no default tag", "zilliz/attu:${ATTU_VERSION:-v3.0.0}", "zilliz/attu:${ATTU_VERSION}", "has no tag"),
    ("secret", "RUSTFS_SECRET_KEY: ${S3_SECRET_KEY:?set it in deploy/.env}", "RUSTFS_SECRET_KEY: hunter2", "a secret"),
    ("secret default", "${MILVUS_ROOT_PASSWORD:?set it in deploy/.env}", "${MILVUS_ROOT_PASSWORD:-Milvus}", "a secret"),
    ("authorisation", 'AUTHORIZATIONENABLED: "true"', 'AUTHORIZATIONENABLED: "false"', "authorisation is off"),
    ("datasets", "target: /opt/datasets, read_only: true", "target: /opt/datasets", "can be written to"),
    ("variable", "${GPU_ID:-0}", "${GPU_NUMBER:-0}", "GPU_NUMBER is not in .env.example"),
    ("unused variable", "${GPU_ID:-0}", "0", "GPU_ID of .env.example is used nowhere"),
    ("health", '["CMD", "etcdctl", "endpoint", "health"]', '["NONE"]', "no healthcheck"),
    ("restart", "restart: unless-stopped\n    logging: *logging\n    mem_limit", "mem_limit", "no restart policy"),
    ("once", 'restart: unless-stopped\n    logging: *logging\n    mem', 'restart: "no"\n    mem', "is not started again"),
    ("profile", 'profiles: ["ui"]', 'profiles: ["page"]', "no profile ui"),
    ("volume", "volumes:\n  etcd:\n", "volumes:\n", "volume etcd is not declared"),
    ("gpu", "${MILVUS_VERSION:-v3.0.4}-gpu", "${MILVUS_VERSION:-v3.0.4}", "GPU image without a GPU"),
    ("wait", "rustfs: {condition: service_healthy}", "rustfs: {condition: service_started}", "to be healthy"),
    ("started with", 'rustfs:\n    profiles: ["gpu", "cpu"]', 'rustfs:\n    profiles: ["cpu"]', "is not started with it"),
    ("name", "x-logging:", "name: outcrop\nx-logging:", "top-level name"),
    ("privileged", "init: true", "privileged: true", "privileged"),
    ("capabilities", 'cap_drop: ["ALL"]', 'cap_drop: ["NET_RAW"]', "keeps capabilities"),
    ("one capability", 'tmpfs: ["/tmp"]', 'cap_add: ["SYS_ADMIN"]', "is given SYS_ADMIN"),
    ("new privileges", 'security_opt: ["no-new-privileges:true"]', "security_opt: []", "may gain privileges"),
    ("no filter", '["no-new-privileges:true"]', '["no-new-privileges:true", "seccomp:unconfined"]', "the filter of system calls"),
    ("writable", "read_only: true\n  tmpfs", "read_only: false\n  tmpfs", "can write to its image"),
    ("memory", "mem_limit: ${APP_MEMORY:-8g}\n  cpus", "cpus", "has no mem_limit"),
    ("processors", "  cpus: ${MILVUS_CPUS:-2}\n", "", "has no cpus"),
    ("other user", "UID: ${APP_UID:-10001}", "UID: 1000", "is built for 1000:${APP_GID:-10001}"),
    ("other image", "VARIANT: cpu", "VARIANT: gpu", "is built as gpu"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "fault"), [b[1:] for b in COMPOSE_BREAKS], ids=[b[0] for b in COMPOSE_BREAKS])
def test_a_broken_compose_file_is_found_out(old: str, new: str, fault: str) -> None:
    text = COMPOSE.read_text()
    assert old in text
    assert any(fault in found for found in compose_faults(text.replace(old, new), EXAMPLE.read_text()))


def test_a_secret_in_the_example_is_found_out() -> None:
    example = EXAMPLE.read_text().replace("\nS3_SECRET_KEY=\n", "\nS3_SECRET_KEY=hunter2\n")
    assert compose_faults(COMPOSE.read_text(), example) == ["S3_SECRET_KEY: a secret in .env.example"]


# --- the tools, where they are -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose_client() -> list[str]:
    """A compose client: the plugin of Docker, or a docker-compose of any version."""
    docker = installed("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return [docker, "compose"]
    if alone := installed("docker-compose"):
        return [alone]
    pytest.skip("neither `docker compose` nor docker-compose is installed: the compose file was read, not resolved")


def filled() -> str:
    """The example with something in the place of every secret."""
    secrets = "MILVUS_ROOT_PASSWORD|MILVUS_USER_PASSWORD|S3_ACCESS_KEY|S3_SECRET_KEY|SERVE_TOKEN"
    return re.sub(rf"^({secrets})=$", r"\1=filled-in", EXAMPLE.read_text(), flags=re.MULTILINE)


def resolve(client: list[str], env_file: Path, *profiles: str) -> subprocess.CompletedProcess[str]:
    """What ``docker compose config`` says, with nothing of our own environment that could fill in a variable."""
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    return subprocess.run(
        [*client, "-f", str(COMPOSE), "--env-file", str(env_file), *chosen, "config"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=env_file.parent,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
    )


@pytest.mark.parametrize(
    ("profiles", "started"),
    [
        (("gpu", "ui", "app"), {"etcd", "rustfs", "standalone-gpu", "attu", "app"}),
        (("cpu", "serve"), {"etcd", "rustfs", "standalone-cpu", "serve"}),
        (("cpu", "app-cpu"), {"etcd", "rustfs", "standalone-cpu", "app-cpu"}),
    ],
)
def test_a_compose_client_resolves_the_file(
    compose_client: list[str], tmp_path: Path, profiles: tuple[str, ...], started: set[str]
) -> None:
    env_file = tmp_path / "filled.env"
    env_file.write_text(filled())
    answer = resolve(compose_client, env_file, *profiles)
    assert answer.returncode == 0, answer.stderr
    services = yaml.safe_load(answer.stdout)["services"]
    # 1.29 prints every service, newer clients those of the profiles asked for.
    assert started <= set(services)
    for name in started:
        assert not tag_fault(services[name]["image"])
        for port in services[name].get("ports", []):
            assert (port["host_ip"] if isinstance(port, dict) else str(port).partition(":")[0]) == "127.0.0.1"
    for name in started & {"app", "app-cpu", "serve"}:
        assert environment(services[name])["OUTCROP_TOKEN"] == "outcrop:filled-in"


@pytest.mark.parametrize(
    ("chosen", "server"), [("cpu", "standalone-cpu"), ("gpu", "standalone-gpu"), ("cpu,ui", "standalone-cpu")]
)
def test_up_alone_starts_what_env_says(compose_client: list[str], tmp_path: Path, chosen: str, server: str) -> None:
    """No --profile: `COMPOSE_PROFILES` of .env decides, and without a change that is the server without a GPU."""
    env_file = tmp_path / "filled.env"
    text = filled()
    assert "COMPOSE_PROFILES=cpu\n" in text
    env_file.write_text(text.replace("COMPOSE_PROFILES=cpu\n", f"COMPOSE_PROFILES={chosen}\n"))
    answer = resolve(compose_client, env_file)
    assert answer.returncode == 0, answer.stderr
    services = yaml.safe_load(answer.stdout)["services"]
    extra = {"attu"} if "ui" in chosen else set()
    assert set(services) == {"etcd", "rustfs", server} | extra
    reserved = {name for name, service in services.items() if service.get("deploy", {}).get("resources")}
    assert reserved == ({server} if chosen == "gpu" else set())


def test_a_compose_client_refuses_empty_secrets(compose_client: list[str], tmp_path: Path) -> None:
    env_file = tmp_path / "empty.env"
    env_file.write_text(EXAMPLE.read_text())
    answer = resolve(compose_client, env_file, "gpu")
    assert answer.returncode != 0
    assert "set it in deploy/.env" in answer.stderr
