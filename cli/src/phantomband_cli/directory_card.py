"""A directory as a genesis file names it: its public keys, and addresses with what others need to dial them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.crypto.sign import IDENTITY_PRIVATE_BYTES, IdentityKey
from phantomband.core.link import LinkKey
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.genesis import DirectoryInfo
from phantomband.runtime.keystore import load_or_create
from phantomband.transports.doh.transport import DohTransport
from phantomband.transports.obfs4.transport import Obfs4Transport
from phantomband.transports.quic.transport import QuicTransport
from phantomband.transports.tls.transport import TlsTransport
from phantomband.transports.websocket.transport import WebSocketTransport

KEYED = {t.name: t for t in (TlsTransport, QuicTransport, Obfs4Transport, WebSocketTransport, DohTransport)}
"""Those whose clients need to know something that is made once and kept."""

IDENTITY_FILE = "directory/identity.key"
GATEWAY_DIRECTORY = "gateway"
LINK_KEY_FILE = f"{GATEWAY_DIRECTORY}/link.key"
LINK_KEY_BYTES = 32
"""Where the services keep their keys, in a node's data directory."""


def identity_of(data: Path, random: RandomSource) -> IdentityKey:
    """The node's identity; made, with mode 0600, when there is none."""
    return IdentityKey(load_or_create(data / IDENTITY_FILE, IDENTITY_PRIVATE_BYTES, random))


def directory_card(
    data: Path, nickname: str, listen: Sequence[NodeAddress], advertise: Sequence[NodeAddress], random: RandomSource
) -> DirectoryInfo:
    """What names this node; keys and secrets are made when there are none.

    Args:
        data: the node's data directory.
        listen, advertise: `gateway.listen` and `gateway.advertise` of its configuration.

    Raises:
        UserError: a key, a secret or a parameter cannot be used.
    """
    link = LinkKey(load_or_create(data / LINK_KEY_FILE, LINK_KEY_BYTES, random))
    addresses = published(data / GATEWAY_DIRECTORY, listen, advertise, random)
    return DirectoryInfo(nickname, identity_of(data, random).public.raw, link.public, addresses)


def published(
    gateway: Path, listen: Sequence[NodeAddress], advertise: Sequence[NodeAddress], random: RandomSource
) -> tuple[NodeAddress, ...]:
    """The addresses that the node will publish once it runs. Args: gateway: where its gateway keeps its secrets."""
    found: dict[str, dict[str, str]] = {}
    for address in listen:
        if address.transport in KEYED:
            transport = KEYED[address.transport](random)
            transport.configure(gateway, dict(address.parameters))
            found[address.transport] = dict(transport.parameters())
    chosen = advertise or [replace(address, parameters=()) for address in listen]
    return tuple(
        replace(a, parameters=tuple(sorted({**found.get(a.transport, {}), **dict(a.parameters)}.items())))
        for a in chosen
    )
