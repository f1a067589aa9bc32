"""The compose file and the manifests against the published schemas: that of the compose specification, and those of Kubernetes.

Both come inside packages (check-jsonschema, kubernetes-validate), so nothing is fetched.
"""

from __future__ import annotations

import copy
import functools
import json
from importlib.resources import files
from typing import Any

import pytest
import yaml
from deployment import COMPOSE, EXAMPLE, VARIABLE, example_variables, manifests, with_defaults

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: no schema was looked at")
VERSIONS = ("1.33", "1.37")
"""The oldest Kubernetes that everything in the manifests is stable in, and the newest there is a schema of."""


@functools.cache
def compose_validator() -> Any:
    pytest.importorskip(
        "check_jsonschema", reason="check-jsonschema is not installed: the compose file was not compared"
    )
    text = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    return jsonschema.validators.validator_for(schema)(schema)


def compose_complaints(compose: dict[str, Any]) -> list[str]:
    return sorted(
        f"{'/'.join(map(str, error.path))}: {error.message[:200]}" for error in compose_validator().iter_errors(compose)
    )


def resolved(node: Any, variables: dict[str, str]) -> Any:
    """The compose file as compose would fill it in with these variables."""
    if isinstance(node, dict):
        return {key: resolved(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [resolved(value, variables) for value in node]
    if not isinstance(node, str) or "${" not in node:
        return node
    known = {name: variables.get(name) or "x" for name in VARIABLE.findall(node) if f"${{{name}:?" in node}
    for name, value in known.items():
        node = node[: node.index(f"${{{name}:?")] + value + node[node.index("}", node.index(f"${{{name}:?")) + 1 :]
    return {"true": True, "false": False}.get(with_defaults(node), with_defaults(node))


def test_the_compose_file_keeps_to_the_compose_specification() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    assert compose_complaints(compose) == []
    assert compose_complaints(resolved(compose, example_variables(EXAMPLE.read_text()))) == []


@pytest.mark.parametrize(
    ("service", "field", "value"),
    [
        ("etcd", "mem_limits", "2g"),
        ("etcd", "restart", 5),
        ("rustfs", "ports", [{"targets": 9000}]),
        ("app", "healthcheck", {"intervall": "30s"}),
        ("standalone-gpu", "deploy", {"resources": {"reservations": {"devices": [{"driver": "nvidia"}]}}}),
    ],
)
def test_a_compose_file_that_does_not_is_found_out(service: str, field: str, value: Any) -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    compose["services"][service] = {**compose["services"][service], field: value}
    assert any(service in complaint for complaint in compose_complaints(compose))


def kubernetes_complaints(manifest: dict[str, Any], version: str) -> str:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed: the manifests were not compared"
    )
    try:
        validate.validate(manifest, version, strict=True)
    except validate.ValidationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", manifests(), ids=lambda m: f"{m['kind']}-{m['metadata'].get('name', 'generated')}")
def test_the_manifests_keep_to_the_schemas_of_kubernetes(manifest: dict[str, Any], version: str) -> None:
    assert kubernetes_complaints(manifest, version) == ""


def test_a_manifest_that_does_not_is_found_out() -> None:
    (job,) = (m for m in manifests() if m["kind"] == "Job")
    for path, value in (
        (("spec", "backofLimit"), 3),
        (("spec", "template", "spec", "restartPolicy"), ["Never"]),
        (("spec", "template", "spec", "containers"), {}),
    ):
        broken: Any = copy.deepcopy(job)
        node = broken
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = value
        assert kubernetes_complaints(broken, VERSIONS[-1]), path
