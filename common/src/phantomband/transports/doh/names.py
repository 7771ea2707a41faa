"""A tunnel's packet in a query's name: base32 without padding, in labels of up to 63, under the zone.

Base32 (RFC 4648, section 6) lives through resolvers that change the case of letters. Each packet has a number of its
own, so each name is asked once, and no resolver's cache answers.
"""

from __future__ import annotations

import base64
import binascii

from phantomband.core.errors import Malformed
from phantomband.transports.doh.message import MAX_NAME, encode_name

LABEL = 63


def capacity(zone: list[bytes]) -> int:
    """Bytes of the largest packet that fits a name under `zone`: 140 and more for a zone of 20 bytes."""
    left = MAX_NAME - len(encode_name(zone))
    whole, rest = divmod(left, LABEL + 1)
    return (whole * LABEL + max(0, rest - 1)) * 5 // 8


def encode(packet: bytes, zone: list[bytes]) -> bytes:
    """A name on the wire; `packet` has at most `capacity(zone)` bytes.

    The label nearest to the zone is whole, and the first one short: a resolver that asks label by label (RFC 9156)
    needs as many questions as there are labels.
    """
    text = base64.b32encode(packet).rstrip(b"=").lower()
    return encode_name([text[i : i + LABEL] for i in range(0, len(text), LABEL)] + zone)


def decode_untrusted(parts: list[bytes], zone: list[bytes]) -> bytes:
    """The packet in a name under `zone`. Raises: Malformed: it has none."""
    text = b"".join(parts[: -len(zone)])
    try:
        return base64.b32decode(text.upper() + b"=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise Malformed("a name is not base32") from None


def under(parts: list[bytes], zone: list[bytes]) -> bool:
    """Whether the name of these labels is the zone's own or below it."""
    return parts[-len(zone) :] == zone
