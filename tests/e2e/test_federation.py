"""A network that is no test network, as its founders would type it: cards, genesis, work, probation, a change of the
directories, a new identity. Its nodes are in different networks of loopback, since caps and paths go by them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from e2e_net import PHANTOMBAND, die_with_parent, succeed, until
from e2e_views import ViewWatch, watching
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.core.netdir.view import Flags, ViewEntry
from phantomband_cli.control import ClientControl, NoAnswer, circuit_json
from phantomband_cli.testnet.ports import free_ports
from phantomband_cli.testnet.prepare import write_toml

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(500)]

FOUNDERS = [f"n{i}" for i in range(1, 5)]
NODES = [*FOUNDERS, "n5", "n6"]
PATIENCE = 120.0
EPOCH_SECONDS = 4
PROBATION = 8


@dataclass
class Federation:
    """The nodes' files and processes."""

    base: Path
    runs: Path
    stack: ExitStack
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def genesis(self) -> Path:
        return self.base / "genesis.json"

    def config(self, name: str) -> Path:
        return self.base / name / "node.toml"

    def prepare(self, name: str, number: int, **sections: dict[str, object]) -> None:
        """A configuration on addresses of its own /16."""
        ports = free_ports(["tcp", "tls", "quic"])
        listen = [f"{kind}://127.{number}.0.1:{port}" for kind, port in zip(("tcp", "tls", "quic"), ports)]
        top = {
            "nickname": name,
            "genesis": str(self.genesis),
            "data_dir": str(self.base / name / "data"),
            "run_dir": str(self.runs / name),
        }
        relay = {"exit_policy": ["accept *:*"]}
        write_toml(self.config(name), top, {"gateway": {"listen": listen}, "relay": relay, **sections})

    def say(self, *command: str | Path) -> str:
        return succeed(*PHANTOMBAND, *command).decode()

    def start(self, name: str, *command: str) -> None:
        arguments = command or ("node", "--config", str(self.config(name)))
        log = self.stack.enter_context((self.base / f"{name}.log").open("ab"))
        process = subprocess.Popen([*PHANTOMBAND, *arguments], stdout=log, stderr=log, preexec_fn=die_with_parent)
        self.processes[name] = process
        self.stack.callback(self.stop, name)

    def stop(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    runs = Path(tempfile.mkdtemp(prefix="pbf-", dir="/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, runs, ignore_errors=True)
        made = Federation(tmp_path_factory.mktemp("federation"), runs, stack)
        for number, name in enumerate(NODES, 1):
            made.prepare(name, number)
        cards = [made.base / f"{name}.json" for name in FOUNDERS]
        for name, card in zip(FOUNDERS, cards):
            made.say("directory", "card", "--config", made.config(name), "--out", card)
        made.say(
            *("directory", "found", "--name", "ours", "--out", made.genesis, "--epoch-seconds", str(EPOCH_SECONDS)),
            *("--startup-epochs", "0", "--startup-seconds", "1", "--min-relays", "6", "--work", "tiny"),
            *("--probation-epochs", str(PROBATION), "--notice-epochs", "2", *cards),
        )
        for name in NODES:
            made.start(name)
        yield made


@pytest.fixture(scope="module")
def views(federation: Federation) -> Iterator[ViewWatch]:
    with watching(federation.runs, NODES) as watch:
        yield watch


def entry(views: ViewWatch, nickname: str, node: str = "n2") -> ViewEntry | None:
    newest = views.views[node].get(views.newest(node))
    return None if newest is None else next((e for e in newest.view.entries if e.nickname == nickname), None)


def test_nodes_that_pay_are_in_the_view_of_all(federation: Federation, views: ViewWatch) -> None:
    until("all six are in every view", lambda: all(views.newest(n) for n in NODES), PATIENCE)
    assert views.members("n6") == set(NODES)
    genesis = load_genesis(federation.genesis)
    assert (genesis.test_network, genesis.terms.probation_epochs) == (False, PROBATION)


def client(federation: Federation, name: str) -> Callable[[], bool]:
    """Starts a client that knows the genesis file only. Returns: whether it has circuits.

    It has no page to fetch: exits of a network that is no test network reach no private address, and no test any other.
    """
    file = federation.base / f"{name}.toml"
    values: dict[str, object] = {
        "genesis": str(federation.genesis),
        "data_dir": str(federation.base / name),
        "run_dir": str(federation.runs / name),
        "socks_port": free_ports(["tcp"])[0],
    }
    write_toml(file, values, {})
    federation.start(name, "client", "--config", str(file))

    def ready() -> bool:
        try:
            with ClientControl(federation.runs / name / "client.sock") as control:
                return bool(control.status(timeout=20).bootstrap.percent == 100)
        except NoAnswer:
            return False

    return ready


def test_a_client_has_circuits_through_three_networks(federation: Federation, views: ViewWatch) -> None:
    until("there is a view", lambda: views.newest("n1"), PATIENCE)
    until("circuits", client(federation, "client"), PATIENCE)
    with ClientControl(federation.runs / "client" / "client.sock") as control:
        circuits = [circuit_json(circuit) for circuit in control.circuits(timeout=20).circuits]
    paths = [[hop["nickname"] for hop in circuit["hops"]] for circuit in circuits if circuit["state"] == "ready"]
    assert paths
    assert all(len(set(path)) == 3 for path in paths)


def test_a_newcomer_is_on_probation(federation: Federation, views: ViewWatch) -> None:
    until("the network is older than its probation", lambda: views.newest("n2") > PROBATION, PATIENCE)
    federation.prepare("late", 7)
    federation.start("late")
    until("it is in the view", lambda: entry(views, "late") is not None, PATIENCE)
    late, old = entry(views, "late"), entry(views, "n6")
    assert late is not None
    assert old is not None
    assert not late.flags & (Flags.GUARD | Flags.EXIT)
    assert old.has(Flags.GUARD | Flags.EXIT)
    assert late.since > old.since


def test_an_identity_is_renewed_and_keeps_its_standing(federation: Federation, views: ViewWatch) -> None:
    before = entry(views, "n6")
    assert before is not None
    federation.stop("n6")
    federation.say("node", "renew-identity", "--config", federation.config("n6"))
    federation.start("n6")

    def renewed() -> ViewEntry | None:
        now = entry(views, "n6")
        return now if now is not None and now.node_id != before.node_id else None

    after = until("the new identity is in the view", renewed, PATIENCE)
    assert after.since == before.since
    assert after.has(Flags.GUARD | Flags.EXIT)


def test_the_directories_replace_one_of_them(federation: Federation, views: ViewWatch) -> None:
    federation.say("directory", "card", "--config", federation.config("n5"), "--out", federation.base / "n5.json")
    change = federation.base / "change"
    asked = ("--remove", "n4", "--add", federation.base / "n5.json", "--epochs", "8", "--out", change)
    federation.say("directory", "propose", "--config", federation.config("n1"), *asked)
    for name in ("n1", "n2", "n3"):
        federation.say("directory", "sign", "--config", federation.config(name), change)
    said = federation.say("directory", "submit", "--config", federation.config("n2"), change)
    assert "signed by 3, 3 are needed" in said
    acts_at = int(said.split("acts at epoch ")[1].split()[0])
    until("the change acts", lambda: views.newest("n6") >= acts_at, PATIENCE)
    federation.stop("n4")
    stopped = time.monotonic()
    views.wait_epochs(3, ["n1", "n2", "n3", "n5", "n6"], PATIENCE)
    newest = views.views["n6"][views.newest("n6")]
    assert newest.view.set_id != load_genesis(federation.genesis).set_id
    assert len(newest.signatures) >= 3
    assert time.monotonic() > stopped


def test_clients_follow_the_new_directories(federation: Federation, views: ViewWatch) -> None:
    """One that has been running since before the change, and one that knows the genesis file only."""
    newest = views.newest("n6")
    until("circuits", client(federation, "fresh"), PATIENCE)
    for name in ("fresh", "client"):
        state = federation.base / name / "state.json"
        until(
            f"{name} has a view of the new set",
            lambda state=state: state.exists() and json.loads(state.read_text())["highest_epoch"] >= newest,
            PATIENCE,
        )
