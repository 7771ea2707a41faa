"""Circuit handshakes in a process of their own: X25519 and ML-KEM hold the interpreter lock, so threads gain nothing.

The worker is forked before the relay starts any thread. Parent and worker share a pair of sequenced-packet sockets:

    job     number 8 | hop 1 | onion skin 1,568
    keys    0 8 | onion key 32 *                    from now on these are accepted; jobs are numbered from 1, no answer
    answer  number 8 | reply 1,408 | forward 32 | backward 32 | exporter 32
            number 8                                it failed
            number 8 | 0                            a fault of ours: it failed, and is counted as a bug

The socket keeps the order. When keys turn, the worker first gets the new ones beside those that it has, and is told to
forget the retired one when the last job that was admitted before has been answered: no handshake is lost by a turn.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence

from phantomband.core.circuit.fair_queue import FairQueue
from phantomband.core.circuit.relay_types import HandshakeJob, RelayLimits
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Bug, Malformed
from phantomband.core.handshake.ntor import KEY_BYTES, RELAY_BYTES, CircuitKeys, OnionKey, Responder
from phantomband.runtime.contained import Contained

IN_FLIGHT = 8
"""Jobs in the worker's socket at once, 2 ms of its time: enough that it never waits for us, and few, since the next one
waits behind them. The rest waits here, fair between sources."""

_PACKET = 4096
_KEYS = bytes(8)
_FAULT = b"\0"

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
        if job[:8] == _KEYS:
            responder.accept([OnionKey(job[at : at + KEY_BYTES]) for at in range(8, len(job), KEY_BYTES)])
        else:
            sock.send(job[:8] + _answer_or_fault(responder, job))


def _answer_or_fault(responder: Responder, job: bytes) -> bytes:
    """One job never ends the worker, which makes the circuits of all peers."""
    try:
        return _answer(responder, job[8], job[9:])
    except Exception:  # noqa: BLE001 - the root of a job
        return _FAULT


def _answer(responder: Responder, hop: int, onion_skin: bytes) -> bytes:
    try:
        reply, keys, _ = responder.answer(onion_skin, hop, lambda _: b"", os.urandom, encapsulate_untrusted)
    except Malformed:
        return b""
    return reply + keys.forward + keys.backward + keys.exporter


class Handshakes:
    """The parent's side: queues jobs, hands out answers.

    Args:
        keys: the onion keys; the worker was forked without any.
        limit: jobs that wait here.
        wanted: asked before a job is given to the worker.
    """

    def __init__(
        self,
        sock: socket.socket,
        done: Done,
        died: Callable[[], None],
        keys: Sequence[OnionKey] = (),
        contained: Contained | None = None,
        limit: int = RelayLimits().pending_handshakes,
        wanted: Callable[[HandshakeJob], bool] = lambda job: True,
    ) -> None:
        self._wanted = wanted
        self._contained = contained or Contained()
        self._sock = sock
        self._done = done
        self._died = died
        self._keys = tuple(keys)
        self._turns = 0
        self._before_turn = 0
        """Jobs admitted before the last turn that have no answer yet."""
        self._queue: FairQueue[tuple[int, HandshakeJob]] = FairQueue(limit)
        self._in_flight: dict[int, tuple[int, HandshakeJob]] = {}
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)
        if keys:
            self._tell_keys(keys)

    @property
    def waiting(self) -> int:
        return self._queue.waiting + len(self._in_flight)

    def submit(self, job: HandshakeJob) -> None:
        """Queues one job: sources take turns, and within one its links. At the bound whoever has most waiting loses."""
        shed = self._queue.add((self._turns, job), source=job.source or job.link, link=job.link)
        if shed is not None:
            self._finished(shed[0])
            self._done(shed[1], None, None)
        self._feed()

    def accept(self, keys: Sequence[OnionKey]) -> None:
        """The keys were turned. The retired one is forgotten when the jobs that may need it are done."""
        retired = [key for key in self._keys if key not in keys]
        self._keys = tuple(keys)
        self._turns += 1
        self._before_turn = self.waiting
        self._tell_keys([*keys, *retired] if self._before_turn else keys)

    def _tell_keys(self, keys: Sequence[OnionKey]) -> None:
        self._send(_KEYS + b"".join(key.private_bytes() for key in keys))

    def _feed(self) -> None:
        while self._queue and len(self._in_flight) < IN_FLIGHT:
            turns, job = self._queue.pop()
            if not self._wanted(job):
                self._finished(turns)
                continue
            self._number += 1
            self._in_flight[self._number] = turns, job
            if not self._send(self._number.to_bytes(8, "big") + bytes((job.hop,)) + job.onion_skin):
                return

    def _send(self, packet: bytes) -> bool:
        try:
            self._sock.send(packet)
        except OSError:
            self._lost()
            return False
        return True

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
        turns, job = self._in_flight.pop(int.from_bytes(packet[:8], "big"))
        self._finished(turns)
        self._feed()
        self._contained.call(lambda: self._answered(job, packet))

    def _finished(self, turns: int) -> None:
        """A job that was admitted after so many turns needs no key any more."""
        if turns < self._turns:
            self._before_turn -= 1
            if not self._before_turn:
                self._tell_keys(self._keys)

    def _answered(self, job: HandshakeJob, packet: bytes) -> None:
        end = 8 + RELAY_BYTES
        if packet[8:] == _FAULT:
            self._contained.bug(Bug("a handshake that failed in the worker by a fault of ours"))
        if len(packet) < end:
            self._done(job, None, None)
        else:
            self._done(job, packet[8:end], CircuitKeys.split(packet[end : end + 3 * KEY_BYTES]))

    def _lost(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._died()

    def close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
