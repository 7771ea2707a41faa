"""A TLS client whose ClientHello is a browser's, by BoringSSL (the `utls` package).

The certificate is not verified, as in `transports/tls`: the link's handshake inside authenticates the node.
"""

from __future__ import annotations

import enum
import ssl

import utls

PROFILE = "chrome:stable"


class Use(enum.Enum):
    """What a browser opens a TLS connection for, and the ALPN protocols that it then offers."""

    HTTPS = ("h2", "http/1.1")
    WEBSOCKET = ("http/1.1",)


def client_context(use: Use, profile: str = PROFILE) -> ssl.SSLContext:
    """For `wrap_bio` with a server name; SSLObjects behave as those of the `ssl` module, errors included.

    Args: profile: a persona's `tls`.
    """
    context = utls.SSLContext(utls.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = utls.CERT_NONE
    context.set_fingerprint(profile)
    context.set_alpn_protocols(list(use.value))
    return context
