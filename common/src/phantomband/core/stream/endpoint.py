"""One end of the conversation between a client and one hop: its streams, credits and congestion window.

The same machine runs in the client (for each hop that it talks to) and in the relay (for its own hop). Data goes
in by `Stream.write` and leaves, as far as windows allow, in `pump`; messages that arrive go in by `message` and
reach the streams' handlers in `deliver`, once for each batch of cells.

Closing: FIN ends one direction, END both. A stream is gone when FIN went both ways, or when END went both ways: the
side that gets an END first answers with its own. A stream ended here calls its handler no more. Whatever else arrives
for a stream that is not open breaks the protocol and kills the circuit: ignored cells would be a covert channel (Tor
proposal 324, section 4.1.4).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from phantomband.core.errors import Malformed, Refused
from phantomband.core.onion import MARK_BYTES, OWN
from phantomband.core.stream.congestion import Congestion, CongestionParameters
from phantomband.core.stream.credit import (
    CIRCUIT_EVERY,
    STREAM_EVERY,
    ReceivedLedger,
    SentLedger,
)
from phantomband.core.stream.messages import (
    HEADER_BYTES,
    EndReason,
    Message,
    Target,
    decode_answers_untrusted,
    decode_reason_untrusted,
    decode_target_untrusted,
    decode_untrusted,
    encode,
    encode_target,
)
from phantomband.core.stream.stream import (
    DATA_AT,
    OUTBOX_LOW,
    SIZE_AT,
    Stream,
    StreamAcceptor,
    StreamHandler,
)

BURST = 16
"""Cells that one stream sends before the next has its turn."""

MAX_CLOSED = 1024
"""Closed streams whose late credits are still recognised; the oldest is forgotten first."""

MAX_CONTROL = 4096
"""Messages of a paced endpoint that wait for their slots; one more breaks the circuit."""

LAST_STREAM = 0xFFFF
_DROP = OWN + encode(Message.DROP, 0)

SendMessages = Callable[[list[bytes]], list[bytes]]
"""Seals and queues messages, unpadded behind their marks (`onion.OWN`); gives the innermost sealed layer of each, whose
last 16 bytes are its tag."""


class Endpoint:
    """All streams between a client and one hop, at one end."""

    def __init__(
        self,
        room: int,
        send: SendMessages,
        parameters: CongestionParameters,
        acceptor: StreamAcceptor | None = None,
        max_streams: int = 1024,
        mixing: float = 0.0,
    ) -> None:
        """Args:
        room: bytes of a message to this hop (`onion.message_room`).
        acceptor: who serves streams that the other end opens; None at the client.
        max_streams: streams open at once; one more is refused with END(RESOURCE).
        mixing: seconds that mixing adds to a round trip.
        """
        self.data_room = room - HEADER_BYTES
        self.streams: dict[int, Stream] = {}
        self.congestion = Congestion(parameters, mixing)
        self.extra: Callable[[int, bytes], None] | None = None
        self.wake: Callable[[], None] = _nobody
        self._send_all = send
        self._acceptor = acceptor
        self._max_streams = max_streams
        self._active: deque[Stream] = deque()
        self._touched: list[Stream] = []
        self._late: list[Callable[[], None]] = []
        self._closed: OrderedDict[int, Stream] = OrderedDict()
        self._ending: OrderedDict[int, Stream] = OrderedDict()
        self._sent = SentLedger(CIRCUIT_EVERY)
        self._received = ReceivedLedger(CIRCUIT_EVERY, parameters.maximum + CIRCUIT_EVERY)
        self._credited = 0
        self._last_id = 0
        self._gone = False
        self.paced = self._choked = False
        self._control_waiting: deque[bytes] = deque()

    # ---- what the user of the endpoint calls -------------------------------------------------------------------

    def open(self, target: Target, handler: StreamHandler, *, resolve: bool = False) -> Stream:
        """A new stream to `target` (client only).

        Raises:
            Refused: all stream ids are in use, or the circuit is gone.
        """
        stream = Stream(self, self._free_id())
        stream.handler = handler
        stream.answer_due = Message.RESOLVED if resolve else Message.CONNECTED
        self.streams[stream.id] = stream
        self.send_control(encode(Message.RESOLVE if resolve else Message.BEGIN, stream.id, encode_target(target)))
        return stream

    def _free_id(self) -> int:
        if self._gone or len(self.streams) >= self._max_streams:
            raise Refused("no room for another stream on this circuit")
        for _ in range(LAST_STREAM):
            self._last_id = self._last_id % LAST_STREAM + 1
            i = self._last_id
            if i not in self.streams and i not in self._closed and i not in self._ending:
                return i
        raise Refused("all stream ids of this circuit are in use")

    def pump(self, now: float) -> int:
        """Sends what the windows allow, streams in turn; returns the number of DATA cells sent.

        Nothing is sent here while the endpoint is paced: see `slot`.
        """
        return 0 if self.paced else self.send_data(now, self._allowed)

    @property
    def _allowed(self) -> int:
        """DATA cells that the congestion window has room for."""
        return self.congestion.window - (self._sent.sent - self._credited)

    @property
    def idle(self) -> bool:
        """Nothing waits to be sent."""
        return not self._active and not self._control_waiting

    def send_data(self, now: float, limit: int) -> int:
        """Sends up to `limit` DATA cells as far as windows allow, streams in turn; returns how many."""
        active = self._active
        budget = total = min(limit, self._allowed)
        while active:
            stream = active[0]
            if budget <= 0 and stream.waiting:
                break
            active.popleft()
            if stream.waiting:
                budget -= self._emit(stream, min(budget, BURST), now)
            if stream.waiting and stream.window > 0 and stream.open:
                active.append(stream)
                continue
            stream.active = False
            if stream.fin_queued and not stream.waiting:
                self._send_fin(stream)
        if self._late:
            self.deliver()
        return max(0, total - budget)

    def deliver(self) -> None:
        """Hands what has arrived to the handlers; call once after each batch of cells."""
        touched, self._touched = self._touched, []
        for stream in touched:
            pieces, stream.inbox = stream.inbox, []
            if pieces and stream.handler is not None:
                stream.handler.data(pieces)
        late, self._late = self._late, []
        for call in late:
            call()

    def gone(self) -> None:
        """The circuit died: every stream ends with CIRCUIT_GONE."""
        if self._gone:
            return
        self._gone = True
        self.deliver()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.open = False
            stream.waiting.clear()
            if stream.handler is not None:
                stream.handler.ended(EndReason.CIRCUIT_GONE)
        self._active.clear()

    # ---- pacing ------------------------------------------------------------------------------------------------

    def pace(self, paced: bool) -> None:
        """Whether everything leaves in slots from now on, or as it comes (PROTOCOL.md section 4, PACE)."""
        self.paced = paced
        if not paced:
            waiting, self._control_waiting = self._control_waiting, deque()
            if waiting:
                self._send_all(list(waiting))
            self.wake()

    def slot(self, now: float, cells: int) -> None:
        """Sends exactly `cells` cells: messages that wait, then data as windows allow, then DROPs.

        Raises:
            Malformed: more answers were asked for than the pace lets through; kill the circuit.
        """
        if self._choked:
            raise Malformed("the other end asks for more answers than its pace lets through")
        left = cells - self._send_waiting(cells)
        left -= self.send_data(now, left)
        left -= self._send_waiting(left)  # the FIN behind the last data
        if left > 0:
            self._send_all([_DROP] * left)

    def _send_waiting(self, limit: int) -> int:
        waiting = self._control_waiting
        messages = [waiting.popleft() for _ in range(min(limit, len(waiting)))]
        if messages:
            self._send_all(messages)
        return len(messages)

    # ---- sending -----------------------------------------------------------------------------------------------

    def activate(self, stream: Stream) -> None:
        if not stream.active and (stream.window > 0 or not stream.waiting):
            stream.active = True
            self._active.append(stream)
            self.wake()

    def send_control(self, message: bytes) -> None:
        """One message that is not DATA."""
        if not self.paced:
            self._send_all([OWN + message])
        elif len(self._control_waiting) < MAX_CONTROL:
            self._control_waiting.append(OWN + message)
        else:
            self._choked = True

    def _emit(self, stream: Stream, limit: int, now: float) -> int:
        """Up to `limit` DATA cells of one stream."""
        full = stream.outbox_bytes >= OUTBOX_LOW
        sealed = self._send_all(stream.cut(self.data_room, min(limit, stream.window)))
        self._sent.count(sealed, now)
        stream.sent.count(sealed, now)
        stream.window -= len(sealed)
        if full and stream.outbox_bytes < OUTBOX_LOW and stream.handler is not None:
            self._late.append(stream.handler.writable)
        return len(sealed)

    def _send_fin(self, stream: Stream) -> None:
        if stream.open and not stream.fin_sent:
            stream.fin_sent = True
            self.send_control(encode(Message.FIN, stream.id))
            if stream.fin_received:
                self._close_orderly(stream)

    def _close_orderly(self, stream: Stream) -> None:
        """FIN went both ways. Credits, or an END that crossed our FIN, may still arrive once."""
        self._forget(stream)
        self._closed[stream.id] = stream
        if len(self._closed) > MAX_CLOSED:
            self._closed.popitem(last=False)
        self._late.append(lambda: _ended(stream, EndReason.DONE))

    def end_stream(self, stream: Stream, reason: EndReason) -> None:
        self._drop_data(stream)
        self.streams.pop(stream.id, None)
        self._ending[stream.id] = stream
        if len(self._ending) > MAX_CLOSED:
            self._ending.popitem(last=False)
        self.send_control(encode(Message.END, stream.id, bytes((reason,))))

    def _forget(self, stream: Stream) -> None:
        self._drop_data(stream)
        self.streams.pop(stream.id, None)

    @staticmethod
    def _drop_data(stream: Stream) -> None:
        stream.open = False
        stream.waiting.clear()
        stream.outbox_bytes = 0

    def credit_stream(self, stream: Stream) -> None:
        while (tag := stream.received.take()) is not None:
            self.send_control(encode(Message.CREDIT, stream.id, tag))

    # ---- receiving ---------------------------------------------------------------------------------------------

    def messages(self, marked: list[bytes], sealed: list[bytes], now: float) -> None:
        """Messages from the other end, padded behind their marks.

        Args: sealed: the innermost layers that they came in, for the credits' tags.

        Raises:
            Malformed: kill the circuit.
        """
        for message, layer in zip(marked, sealed):
            if message[MARK_BYTES] == Message.DATA:
                self._data(message, layer)
            else:
                self._control(*decode_untrusted(message[MARK_BYTES:]), now)

    def _data(self, message: bytes, sealed: bytes) -> None:
        size = message[SIZE_AT] << 8 | message[SIZE_AT + 1]
        if not 0 < size <= self.data_room:
            raise Malformed("a DATA message has 1 byte to its cell's room")
        if self._received.count(sealed):
            while (tag := self._received.take()) is not None:
                self.send_control(encode(Message.CREDIT, 0, tag))
        stream_id = message[2] << 8 | message[3]
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id not in self._ending:
                raise Malformed("DATA for a stream that is not open")
            self._ending[stream_id].received.count(sealed)
            return
        if stream.fin_received:
            raise Malformed("DATA after FIN")
        due = stream.received.count(sealed)
        if not stream.inbox:
            self._touched.append(stream)
        stream.inbox.append(message[DATA_AT : DATA_AT + size])
        if due and stream.taking:
            self.credit_stream(stream)

    def _control(self, command: int, stream_id: int, data: bytes, now: float) -> None:
        match command:
            case Message.CREDIT:
                self._credit(stream_id, data, now)
            case Message.BEGIN | Message.RESOLVE:
                self._accept(command, stream_id, data)
            case Message.CONNECTED | Message.RESOLVED:
                self._answer(command, stream_id, data)
            case Message.FIN if not data:
                self._fin(stream_id)
            case Message.END:
                self._ended(stream_id, decode_reason_untrusted(data))
            case Message.DROP if not data and not stream_id:
                pass
            case _:
                if self.extra is None or stream_id:
                    raise Malformed(f"unexpected message command {command}")
                self.extra(command, data)  # noqa: S610 - no Django here

    def _credit(self, stream_id: int, tag: bytes, now: float) -> None:
        if stream_id == 0:
            left = self._sent.credit_untrusted(tag)
            self._credited += CIRCUIT_EVERY
            self.congestion.sample(max(now - left, 1e-6), CIRCUIT_EVERY, now)
            return
        stream = self.streams.get(stream_id) or self._closed.get(stream_id) or self._ending.get(stream_id)
        if stream is None:
            raise Malformed("credit for a stream that is not open")
        stream.sent.credit_untrusted(tag)
        stream.window += STREAM_EVERY
        if stream.open and stream.waiting:
            self.activate(stream)

    def _accept(self, command: int, stream_id: int, data: bytes) -> None:
        if self._acceptor is None or stream_id == 0:
            raise Malformed("this end takes no streams")
        if stream_id in self.streams or stream_id in self._ending:
            raise Malformed("BEGIN for a stream id that is in use")
        target = decode_target_untrusted(data)
        self._closed.pop(stream_id, None)
        stream = Stream(self, stream_id)
        if len(self.streams) >= self._max_streams:
            self.end_stream(stream, EndReason.RESOURCE)
            return
        self.streams[stream_id] = stream
        accept = self._acceptor.begin if command == Message.BEGIN else self._acceptor.resolve
        stream.handler = accept(stream, target)

    def _answer(self, command: int, stream_id: int, data: bytes) -> None:
        if self._acceptor is not None:
            raise Malformed("an answer to nothing")
        stream = self.streams.get(stream_id)
        answers = decode_answers_untrusted(data)
        if stream is None:
            if stream_id not in self._ending:
                raise Malformed("an answer for a stream that is not open")
            return
        if stream.answer_due != command:
            raise Malformed("an answer of the wrong kind, or a second one")
        stream.answer_due = None
        handler = stream.handler
        if handler is not None:
            self._late.append(lambda: handler.connected(answers))

    def _fin(self, stream_id: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id not in self._ending:
                raise Malformed("FIN for a stream that is not open")
            return
        if stream.fin_received:
            raise Malformed("a second FIN")
        stream.fin_received = True
        handler = stream.handler
        if handler is not None:
            self._late.append(handler.finished)
        if stream.fin_sent:
            self._close_orderly(stream)

    def _ended(self, stream_id: int, reason: EndReason) -> None:
        if self._ending.pop(stream_id, None) is not None:
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if self._closed.pop(stream_id, None) is None:
                raise Malformed("END for a stream that is not open")
            self.send_control(encode(Message.END, stream_id, bytes((EndReason.DONE,))))
            return
        self.send_control(encode(Message.END, stream_id, bytes((EndReason.DONE,))))
        self._forget(stream)
        self._late.append(lambda: _ended(stream, reason))


def _nobody() -> None:
    """Nobody waits to pump."""


def _ended(stream: Stream, reason: EndReason) -> None:
    if stream.handler is not None:
        stream.handler.ended(reason)
