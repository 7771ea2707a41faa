"""Any bytes given to the circuit handshake or to Noise end in a value or in Malformed, on either side.

Run: `make fuzz TARGETS=handshakes`.
"""

from __future__ import annotations

import contextlib
import random

from phantomband.core.crypto.dh import DhKey
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Malformed
from phantomband.core.handshake.noise import Handshake, Keys, Protocol
from phantomband.core.handshake.ntor import OnionKey, RelayKeys, Responder, client_start, unpad_untrusted
from phantomband.core.ids import HopNumber, NodeId

NETWORK, NODE, ONION = bytes(32), NodeId(b"n" * 32), OnionKey(b"o" * 32)
STATIC = DhKey(b"s" * 32)
SOURCE = random.Random(0).randbytes
STATE, C = client_start(RelayKeys(NODE, ONION.public), NETWORK, HopNumber(1), b"", SOURCE)
S = Responder(NODE, [ONION], NETWORK, None).answer(C, 1, lambda _: b"", SOURCE, encapsulate_untrusted)[0]
PROTOCOLS = [Protocol.parse(f"Noise_{p}hfs_25519+MLKEM768_AESGCM_SHA256") for p in ("NK", "XK")]


def overlaid(honest: bytes, data: bytes) -> bytes:
    """`honest` with `data` laid over it where its first two bytes say: reaches behind the first checks."""
    at = int.from_bytes(data[:2], "big") % (len(honest) + 1)
    return honest[:at] + data[2:] + honest[at + len(data[2:]) :]


def one_input(data: bytes) -> None:
    """Feeds `data`, alone and laid over honest messages, to every reader of handshake bytes."""
    for message in (data, overlaid(C, data)):
        with contextlib.suppress(Malformed):
            Responder(NODE, [ONION], NETWORK, None).answer(message, 1, lambda _: b"", SOURCE, encapsulate_untrusted)
    for message in (data, overlaid(S, data)):
        with contextlib.suppress(Malformed):
            STATE.finish(message)
    with contextlib.suppress(Malformed):
        unpad_untrusted(data)
    for protocol in PROTOCOLS:
        initiator = Handshake(protocol, True, b"", Keys(SOURCE, STATIC, STATIC.public))
        first = initiator.write(b"")
        with contextlib.suppress(Malformed):
            initiator.read_untrusted(data)
        for message in (data, overlaid(first, data)):
            responder = Handshake(protocol, False, b"", Keys(SOURCE, STATIC, encapsulate=encapsulate_untrusted))
            with contextlib.suppress(Malformed):
                responder.read_untrusted(message)
