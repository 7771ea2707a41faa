"""Circuit handshakes in a process of their own: X25519 and ML-KEM hold the interpreter lock, so threads gain nothing.

The worker is forked before the relay starts any thread. Parent and worker share a pair of sequenced-packet sockets:

    job     number 8 | hop 1 | onion skin 1,568
    answer  number 8 | reply 1,408 | forward 32 | backward 32 | exporter 32       (number alone: it failed)
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import OrderedDict, deque
from collections.abc import Callable

from phantomband.core.circuit.relay_types import HandshakeJob
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Malformed
from phantomband.core.handshake.ntor import KEY_BYTES, RELAY_BYTES, CircuitKeys, Responder
from phantomband.core.ids import LinkId

IN_FLIGHT = 16
"""Jobs in the worker's socket at once; the rest waits here, fair between links."""

_PACKET = 4096

Done = Callable[[HandshakeJob, bytes | None, CircuitKeys | None], None]


def fork_worker(responder: Responder) -> socket.socket:
    """Starts the worker; returns our end. It ends when our end closes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            _work(theirs, responder)
        finally:
            os._exit(0)
    theirs.close()
    ours.setblocking(False)
    return ours


def _work(sock: socket.socket, responder: Responder) -> None:
    while job := sock.recv(_PACKET):
        sock.send(job[:8] + _answer(responder, job[8], job[9:]))


def _answer(responder: Responder, hop: int, onion_skin: bytes) -> bytes:
    try:
        reply, keys, _ = responder.answer(onion_skin, hop, lambda _: b"", os.urandom, encapsulate_untrusted)
    except Malformed:
        return b""
    return reply + keys.forward + keys.backward + keys.exporter


class Handshakes:
    """The parent's side: queues jobs, hands out answers."""

    def __init__(self, sock: socket.socket, done: Done, died: Callable[[], None]) -> None:
        self._sock = sock
        self._done = done
        self._died = died
        self._queues: OrderedDict[LinkId, deque[HandshakeJob]] = OrderedDict()
        self._in_flight: dict[int, HandshakeJob] = {}
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._queues.values())) + len(self._in_flight)

    def submit(self, job: HandshakeJob) -> None:
        """Queues one job; each link in turn."""
        self._queues.setdefault(job.link, deque()).append(job)
        self._feed()

    def _feed(self) -> None:
        while self._queues and len(self._in_flight) < IN_FLIGHT:
            link, queue = self._queues.popitem(last=False)
            job = queue.popleft()
            if queue:
                self._queues[link] = queue
            self._number += 1
            self._in_flight[self._number] = job
            try:
                self._sock.send(self._number.to_bytes(8, "big") + bytes((job.hop,)) + job.onion_skin)
            except OSError:
                self._lost()
                return

    def _readable(self) -> None:
        try:
            packet = self._sock.recv(_PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._lost()
            return
        job = self._in_flight.pop(int.from_bytes(packet[:8], "big"))
        self._feed()
        if len(packet) == 8:
            self._done(job, None, None)
            return
        end = 8 + RELAY_BYTES
        self._done(job, packet[8:end], CircuitKeys.split(packet[end : end + 3 * KEY_BYTES]))

    def _lost(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._died()

    def close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
