"""The manifests for Kubernetes: read, checked, broken on purpose, and compared with the schemas of Kubernetes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from deployment import (
    DOCKERFILE,
    OPERATIONS,
    USER_YAML,
    deployment_faults,
    deployments,
    job_faults,
    jobs,
    literal_secrets,
    manifests,
    network_faults,
    pod,
    values,
    values_faults,
)

from outcrop.embed.presets import PRESETS


def test_manifests_have_no_faults() -> None:
    found = jobs()
    assert [manifest["kind"] for manifest in found] == ["CronJob", "CronJob", "Job"]
    kinds = {"Job", "CronJob", "Deployment", "Service", "PersistentVolumeClaim", "NetworkPolicy"}
    assert {m["kind"] for m in manifests()} == kinds
    assert [fault for manifest in deployments() for fault in deployment_faults(manifest)] == []
    assert [fault for manifest in found for fault in job_faults(manifest)] == []
    assert [fault for manifest in manifests() for fault in literal_secrets(manifest)] == []
    assert values_faults(values()) == []
    run = {pod(m)["spec"]["containers"][0]["command"][1] for m in found if m["kind"] == "CronJob"}
    assert run == {"verify", "audit"}


def test_every_claim_that_is_mounted_is_there_to_be_made() -> None:
    claimed = {
        volume["persistentVolumeClaim"]["claimName"]
        for manifest in [*jobs(), *deployments()]
        for volume in pod(manifest)["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    made = {
        m["metadata"]["name"]: m["spec"]["accessModes"] for m in manifests() if m["kind"] == "PersistentVolumeClaim"
    }
    assert set(made) == claimed == {"outcrop-datasets", "outcrop-weights", "outcrop-state"}
    for name in made:
        assert name in OPERATIONS.read_text()


def test_the_job_says_its_model_and_runs_as_the_image_does() -> None:
    (job,) = (m for m in jobs() if m["kind"] == "Job")
    variables = {one["name"]: one.get("value") for one in pod(job)["spec"]["containers"][0]["env"]}
    assert variables["OUTCROP_MODEL"] in PRESETS
    number = re.search(r"^ARG UID=(\d+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert number and {pod(m)["spec"]["securityContext"]["runAsUser"] for m in [*jobs(), *deployments()]} == {
        int(number[1])
    }
    for manifest in [*jobs(), *deployments()]:
        for container in pod(manifest)["spec"]["containers"]:
            assert re.fullmatch(r"outcrop:[\d.]+-(gpu|cpu)", container["image"]), "the name that the Dockerfile shows"
            assert f"-t {container['image']}" in DOCKERFILE.read_text()


def test_the_service_leads_to_the_page_and_the_page_to_its_collection() -> None:
    (deployment,) = deployments()
    (service,) = (m for m in manifests() if m["kind"] == "Service")
    labels = pod(deployment)["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (container,) = pod(deployment)["spec"]["containers"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= {port["name"] for port in container["ports"]}
    (policy,) = (p for p in policies() if p["metadata"]["name"] == "page")
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    ports = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert ports == {port["containerPort"] for port in container["ports"]}
    (job,) = (m for m in jobs() if m["kind"] == "Job")
    others = {one["name"]: one for one in pod(job)["spec"]["containers"][0]["env"]}
    for one in container["env"]:  # the page asks the collection that the Job fills
        if one["name"] in others:
            assert one == others[one["name"]]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda c: c.pop("livenessProbe"), "livenessProbe asks nobody"),
        (lambda c: c["readinessProbe"]["httpGet"].update(port="htp"), "readinessProbe asks nobody"),
        (lambda c: c["command"].__setitem__(-1, "8080"), "the port is not the one that is listened at"),
        (lambda c: c["env"].pop(2), "asks nobody for a token"),
        (lambda c: c["env"].append({"name": "OUTCROP_TOKEN", "value": "root:hunter2"}), "OUTCROP_TOKEN: a secret"),
        (lambda c: c["resources"]["limits"].pop("memory"), "no limit for memory"),
        (lambda c: c["securityContext"].pop("readOnlyRootFilesystem"), "can write to its image"),
    ],
)
def test_a_broken_deployment_is_found_out(damage: Callable[[dict[str, Any]], Any], fault: str) -> None:
    (deployment,) = deployments()
    damage(pod(deployment)["spec"]["containers"][0])
    assert any(fault in found for found in deployment_faults(deployment))


def policies() -> list[dict[str, Any]]:
    return [manifest for manifest in manifests() if manifest["kind"] == "NetworkPolicy"]


def test_network_policies_close_everything_but_what_outcrop_needs() -> None:
    assert network_faults(policies()) == []


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda p: p.pop(0), "whoever is not named"),
        (lambda p: p[1]["spec"]["ingress"][0].pop("from"), "milvus-within: a rule for everybody"),
        (lambda p: p[2]["spec"]["ingress"][0]["ports"][0].update(port=19531), "the Job cannot reach Milvus"),
        (lambda p: p[4]["spec"]["egress"].pop(0), "outcrop-verify cannot reach Milvus"),
        (lambda p: p[4]["spec"]["podSelector"]["matchLabels"].update(extra="x"), "outcrop-audit cannot reach Milvus"),
    ],
)
def test_broken_network_policies_are_found_out(damage: Callable[[list[dict[str, Any]]], Any], fault: str) -> None:
    damaged = policies()
    damage(damaged)
    assert any(fault in found for found in network_faults(damaged))


def test_values_for_tls_keep_all_other_settings() -> None:
    plain = yaml.safe_load(values()["extraConfigFiles"]["user.yaml"])
    tls = yaml.safe_load(values("milvus-tls-values.yaml")["extraConfigFiles"]["user.yaml"])
    assert tls["common"]["security"].pop("tlsMode") == 2
    files = tls.pop("tls")
    assert tls == plain
    (mounted,) = values("milvus-tls-values.yaml")["proxy"]["volumeMounts"]
    assert {path.rpartition("/")[0] for path in files.values()} == {mounted["mountPath"]} and mounted["readOnly"]
    assert files == yaml.safe_load(USER_YAML.read_text())["tls"], "compose and Kubernetes differ"


def _take_gpu(v: dict[str, Any]) -> None:
    del v["dataNode"]["resources"]["limits"]["nvidia.com/gpu"]


def _write_key(v: dict[str, Any]) -> None:
    v["externalS3"]["secretKey"] = "hunter2"


def _write_password(v: dict[str, Any]) -> None:
    v["proxy"]["extraEnv"] = [{"name": "COMMON_SECURITY_DEFAULTROOTPASSWORD", "value": "hunter2"}]


def _cpu_image(v: dict[str, Any]) -> None:
    v["image"]["all"]["tag"] = "v3.0.4"


def _open(v: dict[str, Any]) -> None:
    v["extraConfigFiles"]["user.yaml"] = "common: {security: {authorizationEnabled: false}}"


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (_take_gpu, "dataNode has no GPU"),
        (_write_key, "externalS3.secretKey is in the file"),
        (_write_password, "COMMON_SECURITY_DEFAULTROOTPASSWORD: a secret in the file"),
        (_cpu_image, "image tag v3.0.4 is no version with GPU"),
        (_open, "authorisation is off"),
    ],
)
def test_broken_helm_values_are_found_out(damage: Callable[[dict[str, Any]], None], fault: str) -> None:
    damaged = json.loads(json.dumps(values()))  # without the anchors, which would share what is damaged
    damage(damaged)
    assert fault in values_faults(damaged)


def test_a_broken_job_is_found_out() -> None:
    (job,) = (m for m in jobs() if m["kind"] == "Job")
    inside = pod(job)["spec"]
    inside["securityContext"]["runAsNonRoot"] = False
    inside["containers"][0]["image"] = "outcrop"
    inside["containers"][0]["env"].append({"name": "OUTCROP_TOKEN", "value": "root:hunter2"})
    inside["containers"][0]["volumeMounts"][0]["readOnly"] = False
    job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] += [4, 5]
    job["spec"]["completions"] = 16
    assert set(job_faults(job)) == {
        "may run as root",
        "image outcrop has no tag",
        "OUTCROP_TOKEN: a secret in the file",
        "/opt/datasets can be written to",
        "gives up on exit codes [1, 2, 3, 4, 5, 6]",
        "one shard's failed items end the others",
        "OUTCROP_SHARD does not fit the completions",
    }
    inside["containers"][0]["env"].reverse()
    job["spec"]["completions"] = 8
    assert "JOB_COMPLETION_INDEX is not known before OUTCROP_SHARD" in job_faults(job)
    assert "a Secret in the file" in job_faults({"kind": "Secret", "data": {"token": "aHVudGVyMg=="}})
