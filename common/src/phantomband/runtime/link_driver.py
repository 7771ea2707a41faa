"""Drives one link: a transport's connection below, the sans-io link machine inside, an owner above.

A handshake that fails, takes too long or sends junk is answered with nothing: the driver reads on and closes after a
random time, so that a prober sees neither a distinctive byte nor a distinctive moment (PROTOCOL.md section 5).

An established link is paced as its ends agree (SHAPE cells, core/shaping): its queue is then a `PacedEgress`.

An error that nobody expected, whatever called us, is counted and ends this link alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable

from phantomband.core.cell import CELL_BYTES, LINK_CIRCUIT, Command, encode, split
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.dircall import Assembler, encode_cells
from phantomband.core.errors import Bug, Malformed, Refused
from phantomband.core.link import Cells, Established, Link, Send
from phantomband.core.shaping import OFF, Mode, Policy, Shape, make_pacer
from phantomband.runtime.contained import Contained
from phantomband.runtime.egress import LINK_QUEUE_CAP, Egress
from phantomband.runtime.link_owner import LinkOwner, Paddings
from phantomband.runtime.memory_budget import MemoryBudget
from phantomband.runtime.paced_egress import PAD, Fill, PacedEgress, no_fill
from phantomband.transports.base import Buffer, Connection

HANDSHAKE_SECONDS = 10.0
"""A link that is not established by then is closed."""

LINGER_SECONDS = (1.0, 15.0)
"""A failed incoming link is closed after a time drawn from this range."""

STALL_SECONDS = 30.0
"""A peer that takes no byte for so long while cells wait is gone."""

KEEPALIVE_SECONDS = 20.0
"""An established link on which nothing was sent for so long sends one PAD cell."""

IDLE_SECONDS = 75.0
"""A peer from which nothing came for so long is gone: it would have sent PAD cells."""

ASKS_A_MINUTE = 4
"""How often a dialer may ask for another shape of a link."""

ASKS_TAKEN_A_MINUTE = 2 * ASKS_A_MINUTE
"""What a listener takes: on the way, asks of one minute may come nearer to those of the next."""

DESTROY_ALL = encode(LINK_CIRCUIT, Command.DESTROY)
"""Says that every circuit of the link is dead."""


UNPACED = Policy()

LINK_BYTES = 16 * 1024
"""What a connection takes in any case: its objects, its keys and what a handshake holds."""


class LinkDriver:
    """One link of a gateway or client. It is the receiver of its connection."""

    def __init__(
        self,
        machine: Link,
        owner: LinkOwner,
        random: RandomSource,
        *,
        incoming: bool,
        policy: Policy = UNPACED,
        fill: Fill = no_fill,
        slowness: float = 0.0,
        contained: Contained | None = None,
        budget: MemoryBudget | None = None,
        source: Hashable = None,
        paddings: Paddings | None = None,
    ) -> None:
        """Args:

        policy: how the link is paced from its first record on; a dialer asks the peer for the same. What a listener
            does for who asks.
        fill: makes cells for slots of this end in which nothing waits; by default they carry PAD cells.
        slowness: of the transport; seconds that a dialer's handshake may take longer.
        contained: counts errors that nobody expected.
        budget: what this link holds is charged to it.
        source: who is behind the link, as far as is known.
        paddings: whether there is room for what a dialer asks; None: there always is.
        """
        self._paddings = paddings
        self.source = source
        self.heard = False
        """Whether a byte came."""
        self.used = 0.0
        """When cells of circuits came last, on the loop's clock."""
        self._contained = contained or Contained()
        self._budget = budget
        self.incoming = incoming
        self.established = False
        self.peer_key: bytes | None = None
        self.shaped = OFF
        """How this end is paced."""
        self.peer_shaped: Shape | None = None
        """How the listener said that it is paced; None: it was not asked, or has not answered."""
        self._policy = policy
        self._fill = fill
        self._asks: deque[float] = deque(maxlen=ASKS_TAKEN_A_MINUTE)
        """When the last SHAPE cells were sent, by a dialer, or came, to a listener."""
        self._answered: deque[Callable[[Shape], None]] = deque()
        """Who waits for the answers to SHAPE cells, in order."""
        self._machine = machine
        self._owner = owner
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._egress: Egress | None = None
        self._assembler = Assembler()
        self._assembled = 0
        self._closed = self._released = False
        self._swallowing = False
        self._last_in = self._last_out = self._loop.time()
        self._sent_mark = -1
        self._stall_since = 0.0
        self._timer = self._loop.call_later(HANDSHAKE_SECONDS + slowness, self._timed, self.fail)
        self._hold(LINK_BYTES)

    # ---- from below ----------------------------------------------------------------------------------------------

    def attach(self, connection: Connection) -> LinkDriver:
        """The connection is there; a dialer speaks first."""
        self._connection = connection
        if not self.incoming:
            connection.write(self._machine.start())
        return self

    def received(self, data: Buffer) -> None:
        self.heard = True
        if self._swallowing:
            return
        try:
            for event in self._machine.receive(data):
                match event:
                    case Cells(cells):
                        self._cells(cells)
                    case Send(out):
                        self._write(out)
                    case Established(peer_key):
                        self._establish(peer_key)
        except Malformed:
            self.fail()
        except Exception as e:  # noqa: BLE001 - the root of a callback: see the module
            self._broken(e)

    def writable(self) -> None:
        if self._egress is not None:
            self._timed(self._egress.drain)

    def closed(self, error: Exception | None) -> None:
        self._stop()
        if self._budget is not None:
            self._budget.release(self)
            self._budget = None
        if self._paddings is not None:
            self._paddings.give_back(self)
        if not self._closed:
            self._closed = True
            self._contained.call(lambda: self._owner.link_closed(self))
        if not self._released:
            self._released = True
            self._contained.call(lambda: self._owner.link_released(self))

    def _timed(self, work: Callable[[], None]) -> None:
        """Runs a callback of the loop or of the connection."""
        try:
            work()
        except Exception as e:  # noqa: BLE001 - as above
            self._broken(e)

    def _broken(self, error: Exception) -> None:
        self._contained.bug(error)
        self._contained.call(self.abort)

    # ---- memory --------------------------------------------------------------------------------------------------

    def _hold(self, delta: int) -> None:
        if self._budget is not None and delta:
            self._budget.hold(self, delta)

    def shed(self) -> None:
        """Gives up the largest queue of a circuit; the link ends when it holds nothing else that could be given up."""
        if self._egress is None or not self._egress.shed():
            self.abort()
            if self._budget is not None:
                self._budget.release(self)
                self._budget = None

    def _write(self, data: Buffer) -> None:
        if self._connection is not None and not self._closed:
            self._connection.write(data)

    def _establish(self, peer_key: bytes | None) -> None:
        assert self._connection is not None  # noqa: S101 - received() is only called once attached
        self.established = True
        self.peer_key = peer_key
        self._egress = Egress(self._machine, self._connection, self._overflow, self._hold)
        self._timer.cancel()
        self._timer = self._loop.call_later(KEEPALIVE_SECONDS, self._timed, self._watch)
        own = self._policy.own
        if own.mode is not Mode.OFF:
            self.shape(own, None if self.incoming else own)
        self._owner.link_established(self, peer_key)

    def _cells(self, cells: bytearray) -> None:
        self._last_in = self._loop.time()
        others, own = split(cells)
        if others:
            self.used = self._last_in
            if self._egress is not None and self._egress.paced:
                self._egress.carried()
            self._owner.link_cells(self, others)
        for command, body in own:
            if command == Command.SHAPE:
                self._shape_cell(Shape.decode_untrusted(body))
            else:
                message = self._assembler.cell_untrusted(body)
                if self._assembler.held != self._assembled:
                    self._hold(self._assembler.held - self._assembled)
                    self._assembled = self._assembler.held
                if message is not None:
                    self._owner.link_directory(self, message)

    def _shape_cell(self, shape: Shape) -> None:
        """The dialer asks, the listener answers, once each time."""
        if self.incoming:
            if self._recent_asks() >= ASKS_TAKEN_A_MINUTE:
                raise Malformed("too many SHAPE cells")
            self._asks.append(self._loop.time())
            answer = self._policy.answer(shape)
            if self._paddings is not None and not self._paddings.take(self, answer, self._policy.own):
                answer = self._policy.own
            self.shape(answer)
            self.send(answer.cell())
        elif self._answered:
            self.peer_shaped = shape
            self._answered.popleft()(shape)
        else:
            raise Malformed("a SHAPE cell that was not asked for")

    def _recent_asks(self) -> int:
        """How many there were within a minute."""
        begin = self._loop.time() - 60
        return sum(at > begin for at in self._asks)

    def _overflow(self, circuit: bytes) -> None:
        """The link's own queue (circuit 0) is never given up silently: then the link ends."""
        if circuit == LINK_CIRCUIT:
            self.abort()
        else:
            self._owner.link_overflow(self, circuit)

    # ---- from above ----------------------------------------------------------------------------------------------

    def send(self, cells: Buffer) -> None:
        """Queues whole cells; dropped when the link is not up."""
        if self._egress is not None and not self._closed and not self._swallowing:
            self._last_out = self._loop.time()
            self._egress.add(cells)

    def send_directory(self, request: int, data: bytes, *, answer: bool) -> None:
        """Sends a directory request, or the answer to one: an empty one where the peer has not yet taken those before.

        What a peer's clients make it ask must not fill the link's own queue: that would end the link for all of them.
        """
        if not answer:
            self._assembler.ask(request)
        cells = encode_cells(request, data, answer=answer)
        if answer and self._egress is not None:
            room = LINK_QUEUE_CAP * 7 // 8 - self._egress.own_waiting()
            if len(cells) > max(room, 1) * CELL_BYTES:
                cells = encode_cells(request, b"", answer=True)
        self.send(cells)

    def destroy_all(self) -> None:
        """Tells the peer that every circuit of this link is dead."""
        if self._egress is not None and not self._closed and not self._swallowing:
            self._last_out = self._loop.time()
            self._egress.reset(DESTROY_ALL)

    def shape(
        self, own: Shape, ask: Shape | None = None, answered: Callable[[Shape], None] = lambda shape: None
    ) -> None:
        """From now on what we send is paced as `own` says; cells that wait stay in their order.

        Args:
            ask: how the listener is asked to pace what it sends; only a dialer asks.
            answered: told what the listener says that it does, which may be weaker (`peer_shaped` has it too).

        Raises:
            Bug: the link is not established, or a listener asks.
            Refused: more than `ASKS_A_MINUTE`; nothing was changed.
        """
        if self._egress is None or (ask is not None and self.incoming):
            raise Bug("an established link is shaped, and the dialer asks")
        if ask is not None:
            if self._recent_asks() >= ASKS_A_MINUTE:
                raise Refused("a link was shaped too often; wait a minute")
            self._asks.append(self._loop.time())
        if own != self.shaped and not (self._closed or self._swallowing):
            self.shaped = own
            self._pace(self._egress, own)
        if ask is not None:
            self._answered.append(answered)
            self.send(ask.cell())

    def _pace(self, before: Egress, shape: Shape) -> None:
        assert self._connection is not None  # noqa: S101 - the link is established
        link, connection = self._machine, self._connection
        pacer = make_pacer(shape, self._loop.time(), self._random)
        after = (
            Egress(link, connection, self._overflow, self._hold)
            if pacer is None
            else PacedEgress(link, connection, self._overflow, pacer, self._fill, self._hold)
        )
        after.take_over(before)
        self._egress = after

    @property
    def padding_sent(self) -> int:
        """Cells that were sent to fill slots."""
        return self._egress.padding_sent if self._egress is not None else 0

    @property
    def unanswered(self) -> float:
        """Seconds since a cell came, if one was sent since; else 0."""
        return self._loop.time() - self._last_in if self._last_out > self._last_in else 0.0

    @property
    def waiting(self) -> int:
        """Cells that wait in the egress queue."""
        return self._egress.waiting if self._egress is not None else 0

    def pause_reading(self) -> None:
        if self._connection is not None:
            self._connection.pause_reading()

    def resume_reading(self) -> None:
        if self._connection is not None and not self._swallowing:
            self._last_in = self._loop.time()
            self._connection.resume_reading()

    def close(self) -> None:
        """Sends what the connection holds, then ends."""
        self._end(lambda c: c.close())

    def abort(self) -> None:
        self._end(lambda c: c.abort())

    def _stop(self) -> None:
        """No timer is left."""
        self._timer.cancel()
        if self._egress is not None:
            self._egress.stop()

    def _end(self, how: Callable[[Connection], None]) -> None:
        self._stop()
        if self._connection is not None:
            how(self._connection)
        else:
            self.closed(None)

    def fail(self) -> None:
        """The peer broke the protocol: an incoming link reads on and closes after a random time, ours closes now."""
        self._stop()
        if not self.incoming:
            self.abort()
            return
        self._swallowing = True
        low, high = LINGER_SECONDS
        wait = low + (high - low) * int.from_bytes(self._random(4), "big") / 2**32
        self._timer = self._loop.call_later(wait, self._timed, self.abort)
        if self.established:
            self.established = False
            self._owner.link_closed(self)
            self._closed = True
            if self._egress is not None:
                self._egress.forget()

    # ---- time ----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(KEEPALIVE_SECONDS / 2, self._timed, self._watch)
        if self._egress is not None:
            self._egress.settle()
        if now - self._last_in > IDLE_SECONDS or self._stalled(now):
            self.abort()
        elif now - self._last_out >= KEEPALIVE_SECONDS / 2 and not (self._egress is not None and self._egress.active):
            self.send(PAD)

    def _stalled(self, now: float) -> bool:
        egress = self._egress
        if egress is None or not egress.waiting:
            self._sent_mark = -1
            return False
        if egress.cells_sent != self._sent_mark:
            self._sent_mark, self._stall_since = egress.cells_sent, now
        return now - self._stall_since > STALL_SECONDS
