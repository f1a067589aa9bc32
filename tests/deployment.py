"""What can be wrong with the files of the deployment: each check is a function that lists faults."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from outcrop.schema.errors import EXIT_CODES

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "deploy/milvus-compose.yml"
EXAMPLE = ROOT / "deploy/.env.example"
USER_YAML = ROOT / "deploy/milvus-user.yaml"
DOCKERFILE = ROOT / "Dockerfile"
KUBERNETES = ROOT / "deploy/kubernetes"
OPERATIONS = ROOT / "docs/operations.md"

PROFILES = {"gpu", "cpu", "ui", "app", "app-cpu", "demo", "user"}
READ_ONLY = {
    "/opt/datasets",
    "/queries",
    "/workspace/weights",
    "/etc/outcrop/data_key.json",
    "/etc/outcrop/tls",
    "/etc/outcrop",
}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|API_KEY|CREDENTIAL")
REQUIRED = re.compile(r"\$\{[A-Z][A-Z0-9_]*:\?[^}]+\}\Z")
VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)")
LIBRARIES = {"libegl1", "libgl1", "libgomp1", "libidn2-0", "libudev1", "libusb-1.0-0", "libvulkan1", "libx11-6"}
# Read by compose itself, not by the file.
SINGLE_RUNS = {"demo", "user"}
"""Profiles of services that do one thing and end."""
COMPOSE_OWN = {"COMPOSE_PROJECT_NAME", "COMPOSE_FILE", "COMPOSE_PROFILES"}


def with_defaults(text: str) -> str:
    """What compose would put for ``${NAME:-default}``; nothing for a required variable."""
    text = re.sub(r"\$\{[A-Z][A-Z0-9_]*:?-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{[^}]*\}", "", text)


def tag_fault(image: str) -> str:
    """Why an image's name does not say which version it is; '' where it does."""
    name, _, digest = with_defaults(image).partition("@")
    if digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return f"image {image} has no digest after the @"
    tag = name.rpartition("/")[2].partition(":")[2]
    if not tag or tag.startswith("-"):
        return f"image {image} has no tag"
    return f"image {image} moves" if tag.split("-")[0] in ("latest", "nightly", "edge", "master") else ""


def environment(service: dict[str, Any]) -> dict[str, str]:
    """The environment of a service, whichever way it is written."""
    given = service.get("environment") or {}
    if isinstance(given, list):
        given = dict(entry.partition("=")[::2] for entry in given)
    return {name: "" if value is None else str(value) for name, value in given.items()}


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Source, target, and whether it is read only, of every mount."""
    for mount in service.get("volumes") or []:
        if isinstance(mount, str):
            source, target, *mode = with_defaults(mount).split(":")
            yield source, target, "ro" in mode
        else:
            yield with_defaults(mount["source"]), mount["target"], bool(mount.get("read_only"))


def example_variables(text: str) -> dict[str, str]:
    """Names and values of a ``.env`` file."""
    return dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE))


def compose_faults(compose_text: str, example_text: str) -> list[str]:
    """What is wrong with the compose file and its ``.env.example``."""
    compose = yaml.safe_load(compose_text)
    services, declared = compose["services"], set(compose.get("volumes") or {})
    faults = [f"top-level {key}: docker-compose 1.29 or 2 complains" for key in ("name", "version") if key in compose]

    used = set(VARIABLE.findall(yaml.safe_dump(compose)))
    example = example_variables(example_text)
    faults += [f"{name} is not in .env.example" for name in sorted(used - set(example))]
    faults += [f"{name} of .env.example is used nowhere" for name in sorted(set(example) - used - COMPOSE_OWN)]
    faults += [
        f"{name}: a secret in .env.example"
        for name, value in example.items()
        if SECRET.search(name) and VARIABLE.sub("", value).strip("}") not in ("", ":")
    ]

    if example.get("COMPOSE_PROFILES") != "cpu":
        faults.append("COMPOSE_PROFILES of .env.example: `docker compose up` would not start the CPU profile")
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    faults += [f"no profile {profile}" for profile in sorted(PROFILES - profiles)]
    named: set[str] = set()
    for name, service in services.items():
        faults += [f"{name}: {fault}" for fault in service_faults(service)]
        named |= {source for source, _, _ in mounts(service) if re.match(r"[A-Za-z0-9]", source)}
        for other, how in (service.get("depends_on") or {}).items():
            if not isinstance(how, dict) or how.get("condition") != "service_healthy":
                faults.append(f"{name}: does not wait for {other} to be healthy")
            if not set(service.get("profiles", [])) <= set(services[other].get("profiles", [])):
                faults.append(f"{name}: {other} is not started with it")
    faults += [f"volume {name} is not declared" for name in sorted(named - declared)]
    faults += [f"volume {name} is not used" for name in sorted(declared - named)]
    return faults


def service_faults(service: dict[str, Any]) -> list[str]:
    """What is wrong with one service of the compose file."""
    faults = [fault] if (fault := tag_fault(service["image"])) else []
    check = service.get("healthcheck") or {}
    if service.get("restart") == "no":  # a single run, which ends: there is nothing to watch
        if not set(service.get("profiles", [])) <= SINGLE_RUNS:
            faults.append("is not started again")
    elif not check.get("test") or check.get("disable") or check["test"] in ("NONE", ["NONE"]):
        faults.append("no healthcheck")
    if service.get("restart") not in ("unless-stopped", "always", "no"):
        faults.append("no restart policy")
    faults += hardening_faults(service)
    if not service.get("profiles"):
        faults.append("no profile: always started")
    for port in service.get("ports") or []:
        if not str(port).startswith("${BIND:-127.0.0.1}:"):
            faults.append(f"port {port} is open to everybody")
    for name, value in environment(service).items():
        if SECRET.search(name) and not REQUIRED.match(value):
            faults.append(f"{name}: a secret in the file, or one that may be empty")
    for source, target, read_only in mounts(service):
        if target in READ_ONLY and not read_only:
            faults.append(f"{target} can be written to")
        if "docker.sock" in source:
            faults.append("is given the engine's socket")
    if service.get("privileged") or service.get("network_mode") == "host":
        faults.append("is privileged, or on the host's network")
    if "milvusdb/milvus" in service["image"]:
        given = environment(service)
        if given.get("COMMON_SECURITY_AUTHORIZATIONENABLED") != "true":
            faults.append("authorisation is off")
        if "COMMON_SECURITY_DEFAULTROOTPASSWORD" not in given:
            faults.append("has the root password that everybody knows")
        if service["image"].endswith("-gpu") != bool(service.get("deploy")):
            faults.append("GPU image without a GPU, or a GPU without the image")
    return faults


def hardening_faults(service: dict[str, Any]) -> list[str]:
    """What one service may do that it need not."""
    faults = []
    milvus = "milvusdb/milvus" in service["image"]
    if service.get("cap_drop") != ["ALL"]:
        faults.append("keeps capabilities")
    if extra := set(service.get("cap_add") or []) - ({"DAC_OVERRIDE"} if milvus else set()):
        faults.append(f"is given {', '.join(sorted(extra))}")
    security = service.get("security_opt") or []
    if "no-new-privileges:true" not in security:
        faults.append("may gain privileges")
    if any("unconfined" in str(one) for one in security) and not milvus:
        faults.append("without the filter of system calls")
    if with_defaults(str(service.get("read_only"))).lower() != "true" and "attu" not in service["image"]:
        faults.append("can write to its image")
    for limit in ("mem_limit", "cpus", "pids_limit"):
        if not service.get(limit):
            faults.append(f"has no {limit}")
    build = service.get("build")
    if build:
        numbers = ":".join(str(build["args"].get(name)) for name in ("UID", "GID"))
        if numbers != service.get("user"):
            faults.append(f"is built for {numbers} and runs as {service.get('user')}")
        if not service["image"].endswith(f"-{build['args']['VARIANT']}"):
            faults.append(f"image {service['image']} is built as {build['args']['VARIANT']}")
    return faults


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, continued lines joined, without comments."""
    lines = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    found = re.sub(r"\\\n\s*", " ", lines).splitlines()
    return [(line.split()[0].upper(), line.split(maxsplit=1)[1]) for line in found if line.strip()]


def dockerfile_faults(text: str, dockerignore: str) -> list[str]:
    """What is wrong with the Dockerfile, and with what ``.dockerignore`` lets through."""
    steps = instructions(text)
    arguments = {
        name: value for kind, rest in steps if kind == "ARG" for name, _, value in [rest.partition("=")] if value
    }
    final = steps[max(i for i, (kind, _) in enumerate(steps) if kind == "FROM") :]
    faults = []
    for name in ("GPU_BASE", "CPU_BASE"):
        if fault := tag_fault(arguments.get(name, "")):
            faults.append(f"{name}: {fault}")
        elif "@sha256:" not in arguments[name]:
            faults.append(f"{name}: has no digest")
    users = [re.sub(r"\$\{(\w+)\}", lambda m: arguments.get(m[1], ""), rest) for kind, rest in final if kind == "USER"]
    if not users or not re.match(r"[1-9]\d*(:[1-9]\d*)?\Z", users[-1]):
        faults.append(f"runs as {users[-1] if users else 'root'}, not as a numbered user")
    if not any(kind == "HEALTHCHECK" and '"collection", "doctor"' in rest for kind, rest in final):
        faults.append("no healthcheck by collection doctor")
    installs = [rest for kind, rest in steps if kind == "RUN" and "pip install" in rest]
    if len(installs) < 3 or not all("--constraint constraints.txt" in rest for rest in installs):
        faults.append("pip install without constraints.txt")
    if re.search(r"https?://", text):
        faults.append("names a host")
    given = " ".join(rest for kind, rest in final if kind == "ENV")
    for pair in (
        "PATH=/opt/outcrop/bin:$PATH",
        "OUTCROP_DATASETS=/opt/datasets",
        "OUTCROP_REFERENCES=/opt/references",
        "OUTCROP_EXPORTS=/exports",
        "OUTCROP_STATE=/var/lib/outcrop",
    ):
        if pair not in given.split():
            faults.append(f"does not set {pair}")
    if SECRET.search(given):
        faults.append("a secret in the environment of the image")
    labels = " ".join(rest for kind, rest in final if kind == "LABEL")
    faults += [
        f"no label {label}"
        for label in ("title", "licenses", "version", "revision", "created")
        if f"org.opencontainers.image.{label}=" not in labels
    ]
    allowed = [line for line in dockerignore.splitlines() if line and not line.startswith("#")]
    if allowed[0] != "*":
        faults.append(".dockerignore lets everything through")
    needed = {"pyproject.toml", "constraints.txt", "LICENSE", "README.md", *packages()}
    needed |= {
        source
        for kind, rest in steps
        if kind == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
        if source != "." and not source.startswith("--")
    }
    let_through = {line.removeprefix("!") for line in allowed}
    faults += [
        f".dockerignore keeps back {name}"
        for name in sorted(needed)
        if not let_through & {name, *map(str, Path(name).parents)}
    ]
    return faults


def packages() -> list[str]:
    """The folders of the distribution's packages."""
    return list(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values())


def values_faults(values: dict[str, Any]) -> list[str]:
    """What is wrong with the Helm values of Milvus."""
    faults = []
    tag = str(values["image"]["all"]["tag"])
    if not re.match(r"v\d+\.\d+\.\d+-gpu(@sha256:[0-9a-f]{64})?\Z", tag):
        faults.append(f"image tag {tag} is no version with GPU")
    for node in ("queryNode", "dataNode"):
        resources = values[node].get("resources", {})
        asked = {kind: resources.get(kind, {}).get("nvidia.com/gpu") for kind in ("requests", "limits")}
        if not asked["limits"] or asked["requests"] != asked["limits"]:
            faults.append(f"{node} has no GPU")
    user = yaml.safe_load(values["extraConfigFiles"]["user.yaml"])
    if user["common"]["security"].get("authorizationEnabled") is not True:
        faults.append("authorisation is off")
    for node in ("proxy", "mixCoordinator", "streamingNode", "queryNode", "dataNode"):
        names = {entry["name"] for entry in values[node].get("extraEnv", [])}
        if not {"COMMON_SECURITY_DEFAULTROOTPASSWORD", "MINIO_ACCESS_KEY_ID", "MINIO_SECRET_ACCESS_KEY"} <= names:
            faults.append(f"{node} does not get the credentials")
    faults += [f"externalS3.{key} is in the file" for key in ("accessKey", "secretKey") if values["externalS3"][key]]
    if values["minio"]["enabled"]:
        faults.append("the chart's MinIO, which cannot be pulled any more")
    return faults + literal_secrets(values)


def job_faults(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a Job or CronJob."""
    faults = literal_secrets(manifest)
    if manifest["kind"] == "CronJob":
        if manifest["spec"].get("concurrencyPolicy") != "Forbid":
            faults.append("may run twice at once")
        job = manifest["spec"]["jobTemplate"]["spec"]
    elif manifest["kind"] == "Job":
        job = manifest["spec"]
    else:
        return [*faults, f"a {manifest['kind']} that is not expected here"]
    faults += pod_faults(job["template"]["spec"])
    for_all, for_one = (_fatal(job, action) for action in ("FailJob", "FailIndex"))
    if for_all | for_one != set(EXIT_CODES) - {0, 5}:
        faults.append(f"gives up on exit codes {sorted(for_all | for_one)}")
    return faults + (_shard_faults(job, for_all) if job.get("completionMode") == "Indexed" else [])


def deployment_faults(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a Deployment."""
    faults = literal_secrets(manifest)
    template = manifest["spec"]["template"]
    if not selects(manifest["spec"]["selector"], template["metadata"]["labels"]):
        faults.append("does not select its own pods")
    for container in template["spec"]["containers"]:
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container.get(probe, {}).get("httpGet", {})
            if asked.get("path") != "/healthz" or asked.get("port") not in ports:
                faults.append(f"{probe} asks nobody")
        command = container["command"]
        if str(ports.get("http")) != command[command.index("--port") + 1]:
            faults.append("the port is not the one that is listened at")
        if "OUTCROP_SERVE_TOKEN" not in {one["name"] for one in container["env"]}:
            faults.append("asks nobody for a token")
        if "cpu" not in container["resources"].get("requests", {}):
            faults.append("requests no processor")
    return faults + pod_faults(template["spec"])


def pod_faults(pod: dict[str, Any]) -> list[str]:
    """What is wrong with the pod of any manifest."""
    faults = []
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        faults.append("may run as root")
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        if fault := tag_fault(container["image"]):
            faults.append(fault)
        if "memory" not in container["resources"].get("limits", {}):
            faults.append("no limit for memory")
        if not container["securityContext"].get("readOnlyRootFilesystem"):
            faults.append("can write to its image")
        for mount in container["volumeMounts"]:
            if mount["mountPath"] in READ_ONLY and not mount.get("readOnly"):
                faults.append(f"{mount['mountPath']} can be written to")
            if mount["name"] not in volumes:
                faults.append(f"no volume {mount['name']}")
    return faults


def _fatal(job: dict[str, Any], action: str) -> set[int]:
    rules = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == action]
    return {code for rule in rules for code in rule["onExitCodes"]["values"]}


def _shard_faults(job: dict[str, Any], for_all: set[int]) -> list[str]:
    """What is wrong with a Job whose pods are shards."""
    faults = ["one shard's failed items end the others"] if 4 in for_all else []
    if "backoffLimitPerIndex" not in job:
        faults.append("one shard's tries are another's")
    for container in job["template"]["spec"]["containers"]:
        names = [each["name"] for each in container["env"]]
        values = {each["name"]: each.get("value") for each in container["env"]}
        if values.get("OUTCROP_SHARD") != f"$(JOB_COMPLETION_INDEX)/{job['completions']}":
            faults.append("OUTCROP_SHARD does not fit the completions")
        elif "JOB_COMPLETION_INDEX" not in names[: names.index("OUTCROP_SHARD")]:
            faults.append("JOB_COMPLETION_INDEX is not known before OUTCROP_SHARD")
    return faults


def literal_secrets(node: Any) -> list[str]:
    """Secrets that are written out anywhere in a manifest."""
    faults = []
    if isinstance(node, dict):
        if node.get("kind") == "Secret":
            faults.append("a Secret in the file")
        if SECRET.search(str(node.get("name", ""))) and "secretKeyRef" not in node.get("valueFrom", {}):
            faults.append(f"{node['name']}: a secret in the file")
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            faults += literal_secrets(child)
    return faults


def manifests() -> list[dict[str, Any]]:
    """What is handed to kubectl; values for Helm are none of it."""
    return [
        document
        for path in sorted(KUBERNETES.glob("*.yaml"))
        if not path.name.endswith("-values.yaml")
        for document in yaml.safe_load_all(path.read_text())
    ]


def jobs() -> list[dict[str, Any]]:
    """The manifests that run Outcrop."""
    return [manifest for manifest in manifests() if manifest["kind"] in ("Job", "CronJob")]


def deployments() -> list[dict[str, Any]]:
    """The manifests of what answers all the time."""
    return [manifest for manifest in manifests() if manifest["kind"] == "Deployment"]


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    """The pod of a Job, a CronJob or a Deployment: `metadata` and `spec`."""
    spec = manifest["spec"]
    template: dict[str, Any] = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]
    return template


def values(name: str = "milvus-values.yaml") -> dict[str, Any]:
    """Values for Milvus's Helm chart."""
    loaded: dict[str, Any] = yaml.safe_load((KUBERNETES / name).read_text())
    return loaded


def network_faults(policies: list[dict[str, Any]]) -> list[str]:
    """What the network policies leave open, or close that Outcrop needs."""
    faults = []
    everybody = [p for p in policies if p["spec"]["podSelector"] == {} and not p["spec"].get("ingress")]
    if not any("Ingress" in p["spec"]["policyTypes"] for p in everybody):
        faults.append("whoever is not named may be called by everybody")
    for policy in policies:
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            who = rule.get("from", []) + rule.get("to", [])
            if not who or not all(one.get("podSelector") or one.get("namespaceSelector") for one in who):
                faults.append(f"{policy['metadata']['name']}: a rule for everybody")
    for manifest in [*jobs(), *deployments()]:
        labels = pod(manifest)["metadata"]["labels"]
        if not (called(policies, labels, "egress") and called(policies, labels, "ingress")):
            faults.append(f"{manifest['metadata'].get('name', 'the Job')} cannot reach Milvus")
    return faults


def called(policies: list[dict[str, Any]], labels: dict[str, str], direction: str) -> bool:
    """Whether pods with these labels may call port 19530 of the proxy, as far as rules of one direction go."""
    proxy = {"app.kubernetes.io/instance": "milvus", "component": "proxy"}
    caller, callee = (labels, proxy) if direction == "egress" else (proxy, labels)
    for policy in policies:
        if not selects(policy["spec"]["podSelector"], caller):
            continue
        for rule in policy["spec"].get(direction, []):
            others = rule.get("to" if direction == "egress" else "from", [])
            if any(selects(one.get("podSelector"), callee) for one in others) and any(
                port["port"] == 19530 for port in rule.get("ports", [])
            ):
                return True
    return False


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether a selector with labels chooses what has these."""
    wanted = (selector or {}).get("matchLabels")
    return bool(wanted) and wanted.items() <= labels.items()


def installed(name: str) -> str | None:
    """An executable on the PATH or beside this Python."""
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
