"""The compose file: what is committed is what the generator writes, and it keeps services apart."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.errors import UserError
from phantomband.runtime.settings import ClientConfig, NodeConfig, load
from phantomband_cli import compose
from phantomband_cli.testnet.options import Options

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("directory", "gateway", "relay", "mixer")


def _services(text: str) -> dict[str, Any]:
    services: dict[str, Any] = _load(text)["services"]
    return services


def _load(text: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: run make setup")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return _services(compose.render(Options()))


def _environment(service: dict[str, Any], **image: str) -> dict[str, str]:
    """What the program sees: the image's variables under those of the compose file."""
    assert all(isinstance(v, str) for v in service["environment"].values())
    defaults = {"GENESIS": "/genesis/genesis.json", "DATA_DIR": "/data", "RUN_DIR": "/run/phantomband"}
    return {**{f"PHANTOMBAND_{k}": v for k, v in defaults.items()}, **service["environment"]}


def test_the_committed_file_is_the_generators_default() -> None:
    assert (ROOT / "compose.yaml").read_text() == compose.render(Options()), "run: phantomband testnet compose --out ."


@pytest.mark.parametrize(("nodes", "exits"), [(3, 1), (6, 0), (20, 5), (200, 0)])
def test_every_size_is_yaml_with_unique_addresses(nodes: int, exits: int) -> None:
    services = _services(compose.render(Options(nodes=nodes, exits=exits)))
    assert len(services) == 4 * nodes + 3
    addresses = [n["ipv4_address"] for s in services.values() if isinstance(s.get("networks"), dict)
                 for n in s["networks"].values() if n]  # fmt: skip
    assert len(addresses) == len(set(addresses)) == 2 * nodes + 1
    on_targets = [n for n, s in services.items() if "targets" in s.get("networks", ())]
    assert len(on_targets) == (exits or nodes // 2) + 1


def test_all_are_locked_down(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] <= 128, name
        assert service["mem_limit"], name
        assert "privileged" not in service, name
        assert "cap_add" not in service, name
        assert service["restart"] == ("no" if name == "genesis" else "unless-stopped")


def test_networks_keep_services_apart(services: dict[str, Any]) -> None:
    allowed = {
        "gateway": {"links", "clients"},
        "relay": {"targets"},
        "client": {"access", "clients"},
        "target": {"targets"},
    }
    for name, service in services.items():
        networks = set(service.get("networks", ()))
        assert networks <= allowed.get(name.rpartition("-")[2], set()), name
        assert bool(networks) != (service.get("network_mode") == "none"), name
        assert ("ports" in service) == (name == "client")
    assert all(port.startswith("127.0.0.1:") for port in services["client"]["ports"])
    networks = _load(compose.render(Options()))["networks"]
    assert [n for n, spec in networks.items() if not spec.get("internal")] == ["access"]


def test_no_service_has_anothers_volume(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name in ("genesis", "target"):
            continue
        node, _, part = name.rpartition("-")
        allowed = {"genesis:/genesis:ro", f"{node}-run:/run/phantomband", f"{name}:/data/{part}"}
        assert set(service["volumes"]) <= allowed, name


def test_the_genesis_step_has_the_keys_of_directories_and_no_network(services: dict[str, Any]) -> None:
    step = services["genesis"]
    assert step["network_mode"] == "none"
    assert {v.partition(":")[0] for v in step["volumes"]} == {"genesis"} | {
        f"n{i}-{part}" for i, part in itertools.product((1, 2, 3, 4), ("directory", "gateway"))
    }


@pytest.mark.parametrize("mix", ["none", "timed", "poisson"])
@pytest.mark.parametrize("lane", ["unix", "grpc"])
def test_the_settings_are_read_by_the_services(mix: str, lane: str) -> None:
    services = _services(compose.render(Options(nodes=5, mix=mix, lane=lane, exits=2, transport="quic")))
    for index, part in itertools.product(range(1, 6), PARTS):
        config = load(NodeConfig, None, _environment(services[f"n{index}-{part}"]))
        assert (config.nickname, config.lane.value, config.mixer.strategy) == (f"n{index}", lane, mix)
        assert bool(config.relay.exit_policy) == config.relay.exit_allow_private == (index > 3)
        assert config.gateway.listen[0] == f"tcp://10.86.1.{10 + index}:9001"
    client = load(ClientConfig, None, _environment(services["client"]))
    assert (client.transport, client.http_port, client.socks_host) == ("quic", 9151, "10.86.3.10")


def test_elsewhere_than_in_the_project_nothing_is_built(tmp_path: Path) -> None:
    file = compose.generate(tmp_path / "net", Options(nodes=3), "10.99")
    services = _services(file.read_text())
    assert file == tmp_path / "net" / "compose.yaml"
    assert not any("build" in service for service in services.values())
    assert services["n1-gateway"]["networks"]["links"]["ipv4_address"] == "10.99.1.11"


def test_a_profile_comes_with_relays_that_suit_it() -> None:
    text = compose.render(Options(nodes=4, profile="strong"))
    services = _services(text)
    assert services["client"]["environment"]["PHANTOMBAND_PROFILE"] == "strong"
    settings = services["n1-gateway"]["environment"]
    assert (settings["PHANTOMBAND_GATEWAY__PADDING"], settings["PHANTOMBAND_MIXER__STRATEGY"]) == ("adaptive", "timed")


@pytest.mark.parametrize(
    "bad",
    [{"padding": "x"}, {"profile": "x"}, {"nodes": 2}, {"mix": "x"}, {"lane": "x"}, {"exits": 7}, {"transport": "x"}],
)
def test_options_that_cannot_be(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="--"):
        compose.generate(tmp_path, Options(**bad))


@pytest.mark.parametrize("subnet", ["", "10", "8.8", "10.86.1", "10.300", "x.y"])
def test_subnets_that_cannot_be(tmp_path: Path, subnet: str) -> None:
    with pytest.raises(UserError, match="--subnet"):
        compose.generate(tmp_path, Options(), subnet)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        compose.generate(tmp_path / "file", Options())


@pytest.mark.parametrize(("transport", "port"), [("obfs4", 9004), ("websocket", 9005), ("doh", 9006)])
def test_every_node_listens_on_what_the_client_uses(transport: str, port: int) -> None:
    nodes = _services(compose.render(Options(transport=transport)))
    for index in range(6):
        listen = json.loads(nodes[f"n{index + 1}-gateway"]["environment"]["PHANTOMBAND_GATEWAY__LISTEN"])
        assert f"{transport}://10.86.2.{11 + index}:{port}" in listen
