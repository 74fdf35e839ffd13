"""deploy/kubernetes: valid by Kubernetes' own schemas, and of one mind with image, compose file and settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from chunkspool.settings import GROUP_OF, Settings, variable_of

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "deploy" / "kubernetes"
KEDA = json.loads((PROJECT / "tests" / "support" / "containers" / "keda.schema.json").read_text())
VERSIONS = ("1.31", "1.37")
"""Of Kubernetes: one that is old by now, and a new one."""
OTHER_VARIABLES = {"FLOWER_BASIC_AUTH"}
ROOM = 10
"""Seconds that a worker has after its grace, to release what still runs."""

Manifest = dict[str, Any]


def load(path: Path) -> list[Manifest]:
    """Return the manifests of a file."""
    return list(yaml.safe_load_all(path.read_text()))


FILES = sorted(set(FOLDER.glob("*.yaml")) - {FOLDER / "kustomization.yaml"})
MANIFESTS = [manifest for path in FILES for manifest in load(path)]
BY_NAME = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in MANIFESTS}
DEPLOYMENTS = {name: manifest for (kind, name), manifest in BY_NAME.items() if kind == "Deployment"}


def pod_of(name: str) -> Manifest:
    """Return the specification of a deployment's pods."""
    found: Manifest = DEPLOYMENTS[name]["spec"]["template"]["spec"]
    return found


def container_of(name: str) -> Manifest:
    """Return that of their only container."""
    (container,) = pod_of(name)["containers"]
    return dict(container)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']}/{one['metadata']['name']}")
def test_a_manifest_is_valid(manifest: Manifest) -> None:
    """By Kubernetes' schemas without unknown fields, and by KEDA's as its documentation has them."""
    if manifest["apiVersion"].startswith("keda.sh/"):
        jsonschema.validate(manifest, {**KEDA, **KEDA["definitions"][manifest["kind"]]})
        return
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_files_are_plain() -> None:
    """No anchors and merges, which some tools do not read; no namespace; all files are applied but the examples."""
    applied = load(FOLDER / "kustomization.yaml")[0]["resources"]
    assert sorted(applied) == [path.name for path in FILES if not path.name.endswith(".example.yaml")]
    for path in FILES:
        events = list(yaml.parse(path.read_text()))
        assert not [event for event in events if getattr(event, "anchor", None)], path.name
    assert not [manifest for manifest in MANIFESTS if "namespace" in manifest["metadata"]]


def test_every_name_that_is_used_is_there() -> None:
    """ConfigMaps, Secrets, Services, labels, ports and what is scaled."""
    for name, deployment in DEPLOYMENTS.items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels == deployment["metadata"]["labels"]
        for source in container_of(name)["envFrom"]:
            ((kind, reference),) = source.items()
            assert ({"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind], reference["name"]) in BY_NAME
    pods = [(one["spec"]["template"]["metadata"]["labels"], container_of(name)) for name, one in DEPLOYMENTS.items()]
    for (kind, name), manifest in BY_NAME.items():
        spec = manifest.get("spec", {})
        selector = {
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
        }.get(kind)
        if selector is None:
            continue
        (container,) = [container for labels, container in pods if labels == selector(spec)]
        ports = {port["name"] for port in container["ports"]}
        used = [port["targetPort"] for port in spec.get("ports", ())]
        used += [port["port"] for rule in spec.get("ingress", ()) for port in rule["ports"]]
        assert set(used) <= ports, name
    scaled = BY_NAME["ScaledObject", "chunkspool-worker"]["spec"]
    assert scaled["scaleTargetRef"]["name"] in DEPLOYMENTS
    for trigger in scaled["triggers"]:
        authentication = BY_NAME["TriggerAuthentication", trigger["authenticationRef"]["name"]]
        for reference in authentication["spec"]["secretTargetRef"]:
            assert reference["key"] in BY_NAME["Secret", reference["name"]]["stringData"]
    backend = BY_NAME["Ingress", "chunkspool-web"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["port"]["name"] in {port["name"] for port in BY_NAME["Service", backend["name"]]["spec"]["ports"]}


def test_the_variables_are_settings() -> None:
    """Each is one that chunkspool or Flower reads; what is no secret has a value that is accepted."""
    known = {variable_of(field) for field in GROUP_OF} | OTHER_VARIABLES
    plain = BY_NAME["ConfigMap", "chunkspool"]["data"]
    own = {one["name"]: one["value"] for name in DEPLOYMENTS for one in container_of(name).get("env", ())}
    secret = [
        name
        for (kind, of), one in BY_NAME.items()
        if (kind, of) != ("Secret", "chunkspool-keda") and kind == "Secret"
        for name in one["stringData"]
    ]
    assert {*plain, *own, *secret} <= known
    Settings.from_env({**plain, **own})


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_has_no_rights_that_it_does_not_use(name: str) -> None:
    """No root, no capability, no token of Kubernetes; nothing can be written but /tmp; memory has a limit."""
    pod, container = pod_of(name), container_of(name)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]  # noqa: S108 - in the container
    assert "memory" in container["resources"]["limits"]
    assert {"livenessProbe", "startupProbe"} <= container.keys()


def test_a_worker_has_time_to_hand_over_its_answers() -> None:
    """It is killed later than its grace ends, in Kubernetes as under compose."""
    grace = Settings.from_env(BY_NAME["ConfigMap", "chunkspool"]["data"]).worker.drain_grace
    assert pod_of("chunkspool-worker")["terminationGracePeriodSeconds"] >= grace + ROOM
    compose = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]["worker"]
    assert compose["stop_grace_period"] == f"${{WORKER_STOP_GRACE:-{Settings().worker.drain_grace + ROOM:.0f}s}}"


@pytest.mark.parametrize("service", ["web", "worker", "flower"])
def test_compose_and_kubernetes_start_the_same(service: str) -> None:
    """The same image, the same command and the same ports."""
    compose = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"][service]
    container = container_of(f"chunkspool-{service}")
    assert container["image"] == compose["image"]
    wanted = compose["command"].replace("${WORKER_SLOTS:-100}", "100")
    assert wanted in " ".join(container["args"])
    ports = {str(port["containerPort"]) for port in container["ports"]}
    published = {port.rpartition(":")[2] for port in compose.get("ports", ())}
    assert ports == published | {
        str(compose["environment"][name]) for name in ("CHUNKSPOOL_METRICS_PORT",) if name in compose["environment"]
    }
