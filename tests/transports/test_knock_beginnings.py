"""A prober learns nothing from beginnings of the secret: whoever does not send all of it at once is a visitor."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.transports.tls_layer.connection import RECORD_BYTES, TlsConnection
from phantomband.transports.website.knock import KNOCK_BYTES, Doorkeeper, opens_untrusted
from virtual import run_virtual

KNOCK = bytes(range(100, 100 + KNOCK_BYTES))


class Taken:
    """Remembers what it is given."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def received(self, data: Any) -> None:
        self.got.append(bytes(data))

    def writable(self) -> None: ...

    def close(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...


def at_the_door(*records: bytes) -> tuple[list[bytes], list[bytes]]:
    """(what the tunnel got, what the site got) of records that come one after the other."""
    tunnel, site = Taken(), Taken()

    async def main() -> None:
        door = Doorkeeper(Taken(), KNOCK, lambda: tunnel, lambda: site)  # type: ignore[arg-type]
        for record in records:
            door.received(memoryview(record))
        door.closed(None)

    run_virtual(main())
    return tunnel.got, site.got


@pytest.mark.parametrize("length", range(1, KNOCK_BYTES))
def test_a_bare_beginning_goes_to_the_site_at_once(length: int) -> None:
    assert at_the_door(KNOCK[:length]) == ([], [KNOCK[:length]])
    rest = KNOCK[length:] + b"hello"
    assert at_the_door(KNOCK[:length], rest) == ([], [KNOCK[:length], rest])


def test_the_whole_knock_opens_with_what_follows() -> None:
    assert at_the_door(KNOCK + b"hello", b"more") == ([b"hello", b"more"], [])
    assert at_the_door(KNOCK, b"hello") == ([b"hello"], [])


@given(st.binary(max_size=40))
def test_nothing_else_opens(data: bytes) -> None:
    assert opens_untrusted(data, KNOCK) is data.startswith(KNOCK)


@pytest.mark.parametrize("size", [KNOCK_BYTES, KNOCK_BYTES + 1, 1300, RECORD_BYTES + 5])
@pytest.mark.parametrize("dice", [b"\x00\x00", b"\x00\x03", b"\xff\xff"])
def test_a_client_sends_it_in_one_record_wherever_that_is_cut(size: int, dice: bytes) -> None:
    records: list[int] = []

    class Tls:
        def write(self, data: memoryview) -> None:
            records.append(len(data))

    class Memory:
        def read(self) -> bytes:
            return b""

    class Lower:
        def write(self, data: bytes) -> None: ...

        def flush(self) -> None: ...

    async def main() -> None:
        made: Any = (Lower(), Tls(), Memory(), Memory(), None, None, memoryview(b""), lambda n: dice)
        connection = TlsConnection(*made)
        connection.together = KNOCK_BYTES
        connection._encode(bytes(size))
        connection._encode(bytes(100))

    asyncio.run(main())
    assert records[0] >= min(size, KNOCK_BYTES)
    assert sum(records) == size + 100
