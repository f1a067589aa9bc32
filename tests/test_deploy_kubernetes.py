"""The manifests for Kubernetes: read, checked, broken on purpose, and compared with the schemas of Kubernetes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from deployment import job_faults, manifests, values, values_faults


def test_manifests_have_no_faults() -> None:
    found = manifests()
    assert {m["kind"] for m in found} == {"Job", "CronJob"}
    assert [fault for manifest in found for fault in job_faults(manifest)] == []
    assert values_faults(values()) == []
    audits = [m for m in found if m["kind"] == "CronJob"]
    run = {m["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"][1] for m in audits}
    assert run == {"verify", "audit"}


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
    (job,) = (m for m in manifests() if m["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]
    pod["securityContext"]["runAsNonRoot"] = False
    pod["containers"][0]["image"] = "outcrop"
    pod["containers"][0]["env"].append({"name": "OUTCROP_TOKEN", "value": "root:hunter2"})
    pod["containers"][0]["volumeMounts"][0]["readOnly"] = False
    job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"].append(5)
    assert set(job_faults(job)) == {
        "may run as root",
        "image outcrop has no tag",
        "OUTCROP_TOKEN: a secret in the file",
        "/opt/datasets can be written to",
        "gives up on exit codes [1, 2, 3, 4, 5, 6]",
    }
    assert "a Secret in the file" in job_faults({"kind": "Secret", "data": {"token": "aHVudGVyMg=="}})
