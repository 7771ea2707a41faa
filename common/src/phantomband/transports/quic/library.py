"""qh3's connection, with what its version 2.1 lacks.

Its names that begin with `_` are not public: the lock file pins the version, and `test_quic_knock.py` has clients that
cannot do without.
"""

from __future__ import annotations

from typing import Any

from qh3._hazmat import pull_quic_header
from qh3.quic.connection import QuicConnection
from qh3.quic.crypto import CIPHER_SUITES, derive_key_iv_hp
from qh3.tls import CipherSuite, Epoch, cipher_suite_hash, hkdf_expand_label, hkdf_extract

NetworkAddress = Any

CONNECTION_ID_BYTES = 8
"""Of our own connection ids: where short headers have them, behind the first byte (RFC 9000, section 17.3)."""

INITIAL_SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
"""RFC 9001, section 5.2."""

SECRET_BYTES = 32
"""Of an Initial secret: SHA-256's."""


class HeldConnection(QuicConnection):
    """A QuicConnection

    - whose events, and with them the peer's credit, wait while `held`. The library grants new credit when it hands an
      event out; so a peer fills at most its window while nobody takes;
    - that does not forget datagrams that it has made when the next cannot be made now;
    - that serves clients whose own connection id is empty: Chrome's, OpenSSL's, quic-go's.
    """

    held = False
    _nameless = False
    """Whether the client's connection id is empty."""

    def _drain_core(self) -> None:
        if not self.held:
            super()._drain_core()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        """As the library's, which raises "packet builder capacity exhausted" in many a handshake with datagrams over
        1,200 bytes. What could not be made comes with a later call."""
        out: list[tuple[bytes, NetworkAddress]] = []
        while self._core is not None:
            try:
                made = self._core.poll_transmit(now)
            except RuntimeError:
                break
            if made is None:
                break
            out.append((made[0], made[1]))
        return out

    # An empty connection id is none for the library: it goes on to send to the one that the client made up for us, and
    # then refuses the client's transport parameters. Told of an empty one from the beginning, it knows none of ours but
    # the one that we say we have: so that is the client's own, and the keys that follow from it we work out ourselves.

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        if self._core is None and not self._is_client:
            self._nameless = _nameless_untrusted(data)
        super().receive_datagram(data, addr, now)

    def _create_core(self, remote_addr: NetworkAddress, initial_dcid: bytes, now: float) -> None:
        if not self._nameless:
            super()._create_core(remote_addr, initial_dcid, now)
            return
        self.host_cid = initial_dcid
        super()._create_core(remote_addr, b"", now)
        self._install_initial_keys(initial_dcid)

    def _install_initial_keys(self, initial_dcid: bytes) -> None:
        """RFC 9001, section 5.2."""
        suite = CipherSuite.AES_128_GCM_SHA256
        digest, (protection, aead) = cipher_suite_hash(suite), CIPHER_SUITES[suite]
        names = (aead.decode(), protection.decode())
        initial = hkdf_extract(digest, INITIAL_SALT, initial_dcid)
        assert self._core is not None and self._version is not None  # noqa: S101, PT018  (just made)
        for direction, label in (("receive", b"client in"), ("send", b"server in")):
            secret = hkdf_expand_label(digest, initial, label, b"", SECRET_BYTES)
            keys = derive_key_iv_hp(cipher_suite=suite, secret=secret, version=self._version)
            self._core.install_packet_key(direction, int(Epoch.INITIAL), names, *keys, 0, secret, self._version)

    def _learn_remote_source_cid(self, data: bytes) -> None:
        super()._learn_remote_source_cid(data)
        if self._nameless and self._tls is not None:
            self._tls.remote_initial_source_connection_id = b""


def _nameless_untrusted(data: bytes) -> bool:
    """Whether the sender of a first datagram has an empty connection id."""
    try:
        return not pull_quic_header(data, 0, CONNECTION_ID_BYTES)[4]
    except ValueError:
        return False
