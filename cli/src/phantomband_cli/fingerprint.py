"""`phantomband fingerprint`: what a network and a server see of this client, taken from bytes that it really sent.

The client dials a listener of this process; what arrives there is read, not what was meant to be sent.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from phantomband.core.errors import Malformed, Refused, UserError
from phantomband.transports.base import Address, Buffer, Connection, Receiver
from phantomband.transports.browser import hello as hellos
from phantomband.transports.browser.persona import Persona, choose, load_all
from phantomband.transports.registry import make
from phantomband.transports.tcp.connection import StreamConnection, read_buffer
from phantomband.transports.tcp.transport import TcpTransport
from phantomband.transports.tls_layer.connection import TlsConnection
from phantomband.transports.tls_layer.identity import Identity

TRANSPORTS = ("websocket", "tls")
LOOPBACK = "127.0.0.1"
NAME = "www.example.org"
PATH = "/example"
KNOCK = "A" * 22
PATIENCE = 10.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What arrived."""

    hello: bytes
    """The TLS records of the ClientHello."""
    request: bytes
    """The head of the HTTP request inside; empty for `tls`, which sends none."""


class _Quiet:
    """A receiver that has nothing to do."""

    def received(self, data: Buffer) -> None: ...

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...


class _Listener:
    """Keeps the bytes of one connection, below TLS and inside."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.raw, self.inside = bytearray(), bytearray()
        self.settled = asyncio.Event()

    def accept(self, lower: Connection) -> Receiver:
        assert isinstance(lower, StreamConnection)  # noqa: S101  (TcpTransport gives no other)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        over = TlsConnection(
            lower,
            tls,
            incoming,
            outgoing,
            lambda _: _Inside(self),
            lambda _: self.settled.set(),
            read_buffer(),
            os.urandom,
        )
        return _Below(self, over)


class _Below(_Quiet):
    def __init__(self, listener: _Listener, over: TlsConnection) -> None:
        self._listener, self._over = listener, over

    def received(self, data: Buffer) -> None:
        self._listener.raw += data
        self._over.received(data)

    def closed(self, error: Exception | None) -> None:
        self._over.closed(error)


class _Inside(_Quiet):
    def __init__(self, listener: _Listener) -> None:
        self._listener = listener

    def received(self, data: Buffer) -> None:
        self._listener.inside += data
        if b"\r\n\r\n" in self._listener.inside:
            self._listener.settled.set()


async def capture(transport: str, persona: Persona) -> Seen:
    """Dials a listener of this process with `transport`. Returns: what it saw."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Identity(os.urandom, datetime.datetime.now(datetime.UTC), NAME).load_into(context, os.urandom(16).hex().encode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    seen = _Listener(context)
    listener = await TcpTransport().listen(LOOPBACK, 0, seen.accept)
    address = Address(transport, LOOPBACK, listener.port, {"sni": NAME, "path": PATH, "knock": KNOCK})
    try:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            dialling = tasks.create_task(_dial(make(transport, persona=persona), address))
            while not (seen.settled.is_set() and (transport == "tls" or b"\r\n\r\n" in seen.inside)):
                seen.settled.clear()
                await seen.settled.wait()
            dialling.cancel()
    except TimeoutError:
        raise UserError(
            "the client's hello did not arrive on 127.0.0.1. Look at the firewall of this machine"
        ) from None
    finally:
        await listener.close()
    return Seen(bytes(seen.raw), bytes(seen.inside.partition(b"\r\n\r\n")[0]))


async def _dial(transport: Any, address: Address) -> None:
    try:
        connection = await transport.dial(address, lambda _: _Quiet(), PATIENCE)
        connection.abort()
    except Refused:
        pass  # our listener answers no request


def chosen(name: str | None) -> Persona:
    """The persona `name`; by default one as a session would take. Raises: UserError: there is none."""
    all_of_them = load_all()
    if name is None:
        return choose(all_of_them, os.urandom)
    for persona in all_of_them:
        if persona.name == name:
            return persona
    raise UserError(f"there is no persona {name!r}. Use one of: {', '.join(p.name for p in all_of_them)}")


def report(transport: str, persona: Persona, today: datetime.date) -> dict[str, Any]:
    """One JSON value."""
    if transport not in TRANSPORTS:
        raise UserError(f"--transport {transport}: has no browser's face. Use one of: {', '.join(TRANSPORTS)}")
    seen = asyncio.run(capture(transport, persona))
    hello = hellos.parse_untrusted(seen.hello)
    if hello is None:
        raise Malformed("the client's hello is not whole")
    lines = seen.request.decode("ascii").split("\r\n")
    return {
        "transport": transport,
        "persona": {
            "name": persona.name,
            "browser": f"{persona.browser} {persona.version}",
            "platform": persona.platform,
            "date": persona.date.isoformat(),
            "age_days": persona.age_days(today),
            "warning": persona.warning(today),
        },
        "ja3": {
            "text": hellos.ja3_text(hello),
            "md5": hellos.ja3(hello),
            "sorted_md5": hellos.ja3(hello, ordered=True),
        },
        "ja4": hellos.ja4(hello),
        "alpn": [name.decode("ascii") for name in hello.alpn or ()],
        "request": lines[0],
        "headers": [line.split(": ", 1) for line in lines[1:]],
    }


def text(found: dict[str, Any]) -> Sequence[str]:
    """The same for people."""
    persona = found["persona"]
    out = [
        f"transport  {found['transport']}",
        f"persona    {persona['name']}: {persona['browser']} on {persona['platform']}, taken on {persona['date']} "
        f"({persona['age_days']} days ago)",
        f"JA4        {found['ja4']}",
        f"JA3        {found['ja3']['md5']}   (another for each connection: browsers shuffle their extensions)",
        f"           {found['ja3']['text']}",
        f"JA3 sorted {found['ja3']['sorted_md5']}",
        f"ALPN       {', '.join(found['alpn'])}",
    ]
    if found["request"]:
        out += ["", found["request"], *(f"{name}: {value}" for name, value in found["headers"])]
    if persona["warning"]:
        out += ["", f"warning: {persona['warning']}"]
    return out


def show_fingerprint(transport: str, persona: str | None, as_json: bool) -> None:
    """Prints the report. Raises: UserError."""
    found = report(transport, chosen(persona), datetime.date.today())
    print(json.dumps(found) if as_json else "\n".join(text(found)))
