"""A TLS client whose ClientHello is a browser's, by BoringSSL (the `utls` package).

The certificate is not verified, as in `transports/tls`: the link's handshake inside authenticates the node.
"""

from __future__ import annotations

import enum
import ssl
from functools import cache

import utls

PROFILE = "chrome:stable"


class Use(enum.Enum):
    """What a browser opens a TLS connection for, and the ALPN protocols that it then offers."""

    HTTPS = ("h2", "http/1.1")
    WEBSOCKET = ("http/1.1",)


@cache
def _fingerprint(profile: str) -> utls.Fingerprint:
    """The library's, but with the ids of trust anchors in byte order, as Chromium sends them always.

    The library shuffles them once for each context: an order of 28 ids that stays would mark a client on every network.
    (TLS Trust Anchor Identifiers, draft-ietf-tls-trust-anchor-ids: a list of strings, each behind a byte of length.)
    """
    spec = utls.Fingerprint.from_preset(profile).to_dict()
    listed = spec.get("trust_anchors")
    if listed:
        ids = sorted(_ids(bytes(listed)), key=lambda each: each[1:])
        spec["trust_anchors"] = b"".join(ids)
        spec["permute_trust_anchors"] = False
    return utls.Fingerprint.from_dict(spec)


def _ids(listed: bytes) -> list[bytes]:
    """Each with its byte of length."""
    out = []
    while listed:
        size = 1 + listed[0]
        out.append(listed[:size])
        listed = listed[size:]
    return out


def client_context(use: Use, profile: str = PROFILE) -> ssl.SSLContext:
    """For `wrap_bio` with a server name; SSLObjects behave as those of the `ssl` module, errors included.

    Args: profile: a persona's `tls`.
    """
    context = utls.SSLContext(utls.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = utls.CERT_NONE
    context.set_fingerprint(_fingerprint(profile))
    context.set_alpn_protocols(list(use.value))
    return context
