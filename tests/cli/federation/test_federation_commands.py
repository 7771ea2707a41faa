"""Founding a network and changing its directories, as their operators type it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import typer
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.errors import UserError
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.changes import DirectorySets
from phantomband.core.netdir.descriptor import SUCCESSION_BYTES
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.core.work.equihash import PUBLIC
from phantomband.transports.quic.transport import QuicTransport
from phantomband.transports.tls.transport import TlsTransport
from phantomband_cli.federation import set_changes
from phantomband_cli.federation.commands import register
from phantomband_cli.node import write_node_config
from phantomband_directory.store import FileStore, load_succession
from typer.testing import CliRunner, Result

app = typer.Typer()
directory_app, node_app = typer.Typer(), typer.Typer()
app.add_typer(directory_app, name="directory")
app.add_typer(node_app, name="node")
register(directory_app, node_app)


@node_app.callback()
def node() -> None:
    """As in the real command."""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ok(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


@pytest.fixture
def configs(tmp_path: Path) -> list[Path]:
    """Five nodes; the first four are the directories of a network that was founded."""
    made = []
    for index in range(5):
        home = tmp_path / f"n{index}"
        home.mkdir()
        (home / "node.toml").write_text(
            f'nickname = "n{index}"\ngenesis = "{tmp_path}/genesis.json"\ndata_dir = "{home}/data"\n'
            f'[gateway]\nadvertise = ["tcp://192.0.2.{index + 1}:9001"]\n'
        )
        ok("directory", "card", "--config", home / "node.toml", "--out", home / "card.json")
        made.append(home / "node.toml")
    cards = [config.with_name("card.json") for config in made[:4]]
    ok("directory", "found", "--name", "ours", "--out", tmp_path / "genesis.json", *cards)
    return made


def test_cards_become_a_genesis_file(configs: list[Path], tmp_path: Path) -> None:
    genesis = load_genesis(tmp_path / "genesis.json")
    assert ([d.nickname for d in genesis.directories], genesis.quorum) == (["n0", "n1", "n2", "n3"], 3)
    assert (genesis.test_network, genesis.terms.work, genesis.terms.probation_epochs) == (False, PUBLIC, 24)
    key = IdentityKey((tmp_path / "n2/data/directory/identity.key").read_bytes())
    assert genesis.directories[2].identity == key.public.raw
    again = run("directory", "found", "--name", "ours", "--out", tmp_path / "genesis.json", tmp_path / "n0/card.json")
    assert isinstance(again.exception, UserError)
    assert "exists already" in str(again.exception)
    assert json.loads(ok("directory", "card", "--config", configs[0]))["nickname"] == "n0"


def test_a_card_has_what_clients_need_to_dial(tmp_path: Path) -> None:
    """The same as the gateway publishes later, and nothing of how it listens."""
    data, site = tmp_path / "data", tmp_path / "site"
    site.mkdir()
    listen = [
        "tcp://0.0.0.0:1",
        f"tls://0.0.0.0:2?site={site}",
        "quic://0.0.0.0:3",
        "obfs4://0.0.0.0:4",
        "webtunnel://0.0.0.0:5?url=x",
    ]
    advertise = [
        *(f"{kind}://192.0.2.1:{443 + at}" for at, kind in enumerate(("tcp", "tls", "quic", "webtunnel"))),
        "tls://192.0.2.2:443?sni=www.example.org",
    ]
    config = tmp_path / "node.toml"
    config.write_text(
        f'nickname = "n0"\ngenesis = "{tmp_path}/g"\ndata_dir = "{data}"\n[gateway]\nlisten = {json.dumps(listen)}\n'
        f'advertise = {json.dumps(advertise)}\npluggable = [{{transports = ["webtunnel"], program = "/bin/true"}}]\n'
    )
    ok("directory", "card", "--config", config, "--out", tmp_path / "card.json")
    addresses = [NodeAddress.parse(text) for text in json.loads((tmp_path / "card.json").read_text())["addresses"]]
    tls, quic = TlsTransport(), QuicTransport()
    tls.configure(data / "gateway", {})
    quic.configure(data / "gateway", {})
    assert [(a.transport, a.port, dict(a.parameters)) for a in addresses] == [
        ("tcp", 443, {}),
        ("tls", 444, tls.parameters()),
        ("quic", 445, quic.parameters()),
        ("tls", 443, {**tls.parameters(), "sni": "www.example.org"}),
    ]


def test_a_card_needs_an_address_that_others_reach(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'genesis = "{tmp_path}/g"\ndata_dir = "{tmp_path}/data"\n')
    result = run("directory", "card", "--config", config)
    assert isinstance(result.exception, UserError)
    assert "gateway.advertise" in str(result.exception)


def test_operators_sign_copies_of_a_change_and_it_holds(configs: list[Path], tmp_path: Path) -> None:
    change = tmp_path / "change"
    text = ok(
        *("directory", "propose", "--config", configs[0], "--remove", "n3", "--add", tmp_path / "n4/card.json"),
        *("--epochs", 48, "--out", change),
    )
    assert "out  n3" in text
    assert "in   n4" in text
    copies = []
    for index in (0, 1, 2):
        copies.append(tmp_path / f"copy{index}")
        copies[-1].write_bytes(change.read_bytes())
        assert "signed by 1, 3 are needed" in ok("directory", "sign", "--config", configs[index], copies[-1])
    sets = DirectorySets(load_genesis(tmp_path / "genesis.json"))
    whole = set_changes.merge(copies)
    assert sets.offer_untrusted(whole.encode())
    assert [d.nickname for d in sets.newest.directories] == ["n0", "n1", "n2", "n4"]
    alone = run("directory", "submit", "--config", configs[0], copies[0])
    assert "1 signatures, 3 are needed" in str(alone.exception)
    nobody = run("directory", "submit", "--config", configs[0], *copies)
    assert "no directory answers" in str(nobody.exception)
    stranger = run("directory", "sign", "--config", configs[4], copies[0])
    assert "no directory of the set" in str(stranger.exception)
    state = tmp_path / "n4/data/directory/state"
    FileStore(state, sets.network_id).save_changes([whole.encode()])
    late = run("directory", "sign", "--config", configs[4], copies[0])
    assert "does not follow the newest set" in str(late.exception), "the node knows the change by now"


@pytest.mark.parametrize("junk", [b"", b"junk", base64.b64encode(b"\x01" * 200)])
def test_files_that_are_no_change_are_refused(configs: list[Path], tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "junk").write_bytes(junk)
    result = run("directory", "sign", "--config", configs[0], tmp_path / "junk")
    assert isinstance(result.exception, UserError)
    assert "not a change" in str(result.exception)


def test_changes_without_notice_or_of_strangers_are_refused(configs: list[Path], tmp_path: Path) -> None:
    propose = ("directory", "propose", "--config", configs[0], "--out", tmp_path / "c")
    assert "more than 24" in str(run(*propose, "--remove", "n3", "--epochs", 24).exception)
    assert "no directory is called so" in str(run(*propose, "--remove", "x", "--epochs", 30).exception)
    assert "in the set already" in str(run(*propose, "--add", tmp_path / "n1/card.json", "--epochs", 30).exception)


def test_a_node_renews_its_identity_and_a_directory_does_not(configs: list[Path], tmp_path: Path) -> None:
    home = tmp_path / "n4/data/directory"
    old = IdentityKey((home / "identity.key").read_bytes())
    stale = tmp_path / "n4/data/run/node_id"
    stale.parent.mkdir()
    stale.write_text(str(old.node_id))
    text = ok("node", "renew-identity", "--config", configs[4])
    assert not stale.exists(), "the other services wait for the new one"
    new = IdentityKey((home / "identity.key").read_bytes())
    assert str(old.node_id) in text
    assert str(new.node_id) in text
    assert (home / "identity.previous.key").read_bytes() == old.private_bytes()
    assert len(load_succession(home)) == SUCCESSION_BYTES
    assert load_succession(home).startswith(old.public.raw)
    for name in ("identity.key", "identity.previous.key", "succession"):
        assert (home / name).stat().st_mode & 0o777 == 0o600
    refused = run("node", "renew-identity", "--config", configs[0])
    assert "Change the set instead" in str(refused.exception)


def test_a_founder_writes_a_configuration_before_there_is_a_genesis_file(tmp_path: Path) -> None:
    file, genesis = tmp_path / "node.toml", tmp_path / "genesis.json"
    with pytest.raises(UserError, match="there is no such file"):
        write_node_config(file, "n0", genesis, tmp_path / "data", 9001)
    assert not file.exists()
    write_node_config(file, "n0", genesis, tmp_path / "data", 9001, founding=True)
    result = run("directory", "card", "--config", file)
    assert "gateway.advertise" in str(result.exception), "the next thing to do"
