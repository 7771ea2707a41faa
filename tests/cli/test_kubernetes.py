"""The Kubernetes files: well-formed, locked down, and what they name is there. No cluster is needed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from phantomband.runtime.settings import NodeConfig, load

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: run make setup")
HERE = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
SERVICES = ("directory", "gateway", "relay", "mixer")


def _load(name: str) -> dict[str, Any]:
    (document,) = yaml.safe_load_all((HERE / name).read_text())
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def stateful_set() -> dict[str, Any]:
    spec: dict[str, Any] = _load("statefulset.yaml")["spec"]
    return spec


@pytest.fixture(scope="module")
def containers(stateful_set: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["name"]: c for c in stateful_set["template"]["spec"]["containers"]}


def test_kustomization_names_all_files_and_images(containers: dict[str, Any]) -> None:
    kustomization = _load("kustomization.yaml")
    assert {*kustomization["resources"], "kustomization.yaml"} == {f.name for f in HERE.glob("*.yaml")}
    assert {i["name"] for i in kustomization["images"]} == {c["image"] for c in containers.values()}


@pytest.mark.parametrize("name", sorted(f.name for f in HERE.glob("*.yaml")))
def test_every_file_is_an_object_with_a_kind(name: str) -> None:
    document = _load(name)
    assert {"apiVersion", "kind"} <= set(document)
    assert name == "kustomization.yaml" or document["metadata"]["name"]


def test_a_pod_is_a_node_of_four(stateful_set: dict[str, Any], containers: dict[str, Any]) -> None:
    assert tuple(containers) == SERVICES
    assert stateful_set["serviceName"] == _load("service.yaml")["metadata"]["name"]
    labels = stateful_set["template"]["metadata"]["labels"]
    assert stateful_set["selector"]["matchLabels"] == labels
    assert _load("service.yaml")["spec"]["selector"] == labels
    assert _load("networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == labels


def test_pods_are_locked_down(stateful_set: dict[str, Any], containers: dict[str, Any]) -> None:
    pod = stateful_set["template"]["spec"]
    context = pod["securityContext"]
    assert context["runAsNonRoot"]
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 10001
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for container in containers.values():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["exec"]["command"][0] == "healthy"


def test_volumes_exist_and_keys_are_apart(stateful_set: dict[str, Any], containers: dict[str, Any]) -> None:
    shared = {v["name"]: v for v in stateful_set["template"]["spec"]["volumes"]}
    claims = {c["metadata"]["name"] for c in stateful_set["volumeClaimTemplates"]}
    assert shared["run"]["emptyDir"]["medium"] == "Memory"
    for name, container in containers.items():
        mounts = {m["name"]: m for m in container["volumeMounts"]}
        assert set(mounts) <= set(shared) | claims
        assert set(mounts) & claims == ({name} if name != "mixer" else set())
        assert mounts["genesis"]["readOnly"]
        assert name == "mixer" or mounts[name]["mountPath"] == f"/data/{name}"
    assert claims == set(SERVICES) - {"mixer"}


def test_only_the_gateway_has_ports_and_only_they_are_open(containers: dict[str, Any]) -> None:
    assert [n for n, c in containers.items() if "ports" in c] == ["gateway"]
    ports = {(p["containerPort"], p["protocol"]) for p in containers["gateway"]["ports"]}
    policy = _load("networkpolicy.yaml")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    opened = {(p["port"], p["protocol"]) for rule in policy["ingress"] for p in rule["ports"]}
    served = {(p["port"], p["protocol"]) for p in _load("service.yaml")["spec"]["ports"]}
    assert ports == opened == served


def test_the_settings_are_read_by_the_services(containers: dict[str, Any]) -> None:
    settings = _load("config.yaml")
    assert all(isinstance(v, str) for v in settings["data"].values())
    image = {"PHANTOMBAND_GENESIS": "/genesis/genesis.json", "PHANTOMBAND_DATA_DIR": "/data"}
    for container in containers.values():
        assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]
        own = {e["name"]: e.get("value", "node-0").replace("$(HOST_IP)", "192.0.2.1") for e in container["env"]}
        config = load(NodeConfig, None, {**image, **settings["data"], **own})
        assert config.nickname == "node-0"
        for listen, advertise in itertools.zip_longest(config.gateway.listen, config.gateway.advertise):
            assert listen.replace("0.0.0.0", "192.0.2.1") == advertise
        assert json.loads(own["PHANTOMBAND_GATEWAY__ADVERTISE"])
