"""One end of the conversation between a client and one hop: its streams, credits and congestion window.

The same machine runs in the client (for each hop that it talks to) and in the relay (for its own hop). Data goes
in by `Stream.write` and leaves, as far as windows allow, in `pump`; messages that arrive go in by `message` and
reach the streams' handlers in `deliver`, once for each batch of cells.

Closing: FIN ends one direction, END both. A stream is gone when FIN went both ways, or when END went both ways: the
side that gets an END first answers with its own. A stream ended here calls its handler no more. Whatever else arrives
for a stream that is not open breaks the protocol and kills the circuit: ignored cells are a covert channel (Tor
proposal 324, section 4.1.4). Those few that are taken and dropped all the same are bounded: see `stream_table.py` for
late ones, `circuit/drops.py` for an exit's DROPs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from phantomband.core.errors import Malformed, Refused
from phantomband.core.onion import MARK_BYTES
from phantomband.core.stream.circuit_window import CircuitWindow
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.credit import STREAM_EVERY
from phantomband.core.stream.data_sender import DataSender
from phantomband.core.stream.messages import (
    HEADER_BYTES,
    Answer,
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
from phantomband.core.stream.outbox_gate import OutboxGate
from phantomband.core.stream.slot_queue import SlotQueue
from phantomband.core.stream.stream import DATA_AT, SIZE_AT, SendMessages, Stream, StreamAcceptor, StreamHandler
from phantomband.core.stream.stream_table import StreamTable


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
        self.extra: Callable[[int, bytes], None] | None = None
        self.dropped: Callable[[], None] | None = None
        """Told of each DROP; may raise Malformed."""
        self.used = False
        """Whether a stream was ever opened here."""
        self.wake: Callable[[], None] = _nobody
        self._acceptor = acceptor
        self._table = StreamTable(max_streams)
        self.streams = self._table.open
        self._window = CircuitWindow(parameters, mixing)
        self.congestion = self._window.congestion
        self._out = SlotQueue(send)
        self._gate = OutboxGate()
        self._sender = DataSender(self.data_room, self._window, self._gate, send)
        self._touched: list[Stream] = []
        self._late: list[Callable[[], None]] = []
        self._gone = False

    @property
    def paced(self) -> bool:
        """Whether everything leaves in slots."""
        return self._out.paced

    # ---- what the user of the endpoint calls -------------------------------------------------------------------

    def open(self, target: Target, handler: StreamHandler, *, resolve: bool = False) -> Stream:
        """A new stream to `target` (client only).

        Raises:
            Refused: all stream ids are in use, or the circuit is gone.
        """
        if self._gone or self._table.full:
            raise Refused("no room for another stream on this circuit")
        self.used = True
        stream = Stream(self, self._table.free_id())
        stream.handler = handler
        stream.answer_due = Message.RESOLVED if resolve else Message.CONNECTED
        self.streams[stream.id] = stream
        self.send_control(encode(Message.RESOLVE if resolve else Message.BEGIN, stream.id, encode_target(target)))
        return stream

    def pump(self, now: float) -> int:
        """Sends what the windows allow, streams in turn; returns the number of DATA cells sent.

        Nothing is sent here while the endpoint is paced: see `slot`.
        """
        return 0 if self.paced else self._send_data(now, self._window.allowed)

    @property
    def outbox_bytes(self) -> int:
        """What waits to be sent in all streams."""
        return self._gate.waiting

    @property
    def idle(self) -> bool:
        """Nothing waits to be sent."""
        return self._sender.idle and not self._out

    def _send_data(self, now: float, limit: int) -> int:
        sent = self._sender.send(now, limit, self._send_fin, self._late)
        if self._gate.closed:
            self._open_gate()
        if self._late:
            self.deliver()
        return sent

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
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            self._gate.forget(stream)
            stream.shut()
            if stream.handler is not None:
                stream.handler.ended(EndReason.CIRCUIT_GONE)
        self._sender.clear()

    # ---- pacing ------------------------------------------------------------------------------------------------

    def pace(self, paced: bool) -> None:
        """Whether everything leaves in slots from now on, or as it comes (PROTOCOL.md section 4, PACE)."""
        self._out.pace(paced)
        if not paced:
            self.wake()

    def slot(self, now: float, cells: int) -> None:
        """Sends exactly `cells` cells: messages that wait, then data as windows allow, then DROPs.

        Raises:
            Malformed: more answers were asked for than the pace lets through; kill the circuit.
        """
        self._out.check()
        left = cells - self._out.send_waiting(cells)
        left -= self._send_data(now, left)
        left -= self._out.send_waiting(left)  # the FIN behind the last data
        self._out.fill(left)

    # ---- sending -----------------------------------------------------------------------------------------------

    def activate(self, stream: Stream) -> None:
        if self._sender.add(stream):
            self.wake()

    def queued(self, stream: Stream, size: int) -> bool:
        gate = self._gate
        if gate.added(size):
            gate.hold(self.streams.values())
            for each in self.streams.values():
                if each is not stream and each.handler is not None:
                    each.handler.hold()
        if size:
            self.activate(stream)
        if gate.closed and stream.open:
            gate.hold((stream,))
            return False
        return True

    def _open_gate(self) -> None:
        self._late += [stream.writable for stream in self._gate.opened()]

    def send_control(self, message: bytes) -> None:
        """One message that is not DATA."""
        self._out.add(message)

    def _send_fin(self, stream: Stream) -> None:
        if stream.open and not stream.fin_sent:
            stream.fin_sent = True
            self.send_control(encode(Message.FIN, stream.id))
            if stream.fin_received:
                self._close_orderly(stream)

    def _forget_outbox(self, stream: Stream) -> None:
        self._gate.forget(stream)
        if self._gate.closed:
            self._open_gate()
            self.wake()

    def _close_orderly(self, stream: Stream) -> None:
        self._forget_outbox(stream)
        self._table.close(stream)
        self._late.append(lambda: _ended(stream, EndReason.DONE))

    def end_stream(self, stream: Stream, reason: EndReason) -> None:
        stream.handler = None  # whatever is due to it: its user may have ended it in the middle of a batch
        self._forget_outbox(stream)
        self._table.end(stream)
        self.send_control(encode(Message.END, stream.id, bytes((reason,))))

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
                if self._gone:
                    return  # it ended the circuit: a stream begun behind it would be ended by nobody

    def _data(self, message: bytes, sealed: bytes) -> None:
        size = message[SIZE_AT] << 8 | message[SIZE_AT + 1]
        if not 0 < size <= self.data_room:
            raise Malformed("a DATA message has 1 byte to its cell's room")
        if self._window.received.count(sealed):
            while (tag := self._window.received.take()) is not None:
                self.send_control(encode(Message.CREDIT, 0, tag))
        stream_id = message[2] << 8 | message[3]
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id not in self._table.ending:
                raise Malformed("DATA for a stream that is not open")
            self._table.ending[stream_id].received.count(sealed)
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
                if self.dropped is not None:
                    self.dropped()
            case _:
                if self.extra is None or stream_id:
                    raise Malformed(f"unexpected message command {command}")
                self.extra(command, data)  # noqa: S610 - no Django here

    def _credit(self, stream_id: int, tag: bytes, now: float) -> None:
        if stream_id == 0:
            self._window.credit_untrusted(tag, now)
            return
        stream = self._table.find(stream_id)
        if stream is None:
            raise Malformed("credit for a stream that is not open")
        stream.sent.credit_untrusted(tag)
        stream.window += STREAM_EVERY
        if stream.open and stream.waiting:
            self.activate(stream)

    def _accept(self, command: int, stream_id: int, data: bytes) -> None:
        if self._acceptor is None or stream_id == 0:
            raise Malformed("this end takes no streams")
        if stream_id in self.streams or stream_id in self._table.ending:
            raise Malformed("BEGIN for a stream id that is in use")
        target = decode_target_untrusted(data)
        self._table.forget_closed(stream_id)
        stream = Stream(self, stream_id)
        if self._table.full:
            self.end_stream(stream, EndReason.RESOURCE)
            return
        self.streams[stream_id] = stream
        accept = self._acceptor.begin if command == Message.BEGIN else self._acceptor.resolve
        handler = accept(stream, target)
        stream.handler = handler if stream.open else None

    def _answer(self, command: int, stream_id: int, data: bytes) -> None:
        if self._acceptor is not None:
            raise Malformed("an answer to nothing")
        stream = self.streams.get(stream_id)
        answers = decode_answers_untrusted(data)
        if stream is None:
            if stream_id not in self._table.ending:
                raise Malformed("an answer for a stream that is not open")
            return
        if stream.answer_due != command:
            raise Malformed("an answer of the wrong kind, or a second one")
        stream.answer_due = None
        self._late.append(partial(_connected, stream, answers))

    def _fin(self, stream_id: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id not in self._table.ending:
                raise Malformed("FIN for a stream that is not open")
            return
        if stream.fin_received:
            raise Malformed("a second FIN")
        stream.fin_received = True
        self._late.append(partial(_finished, stream))
        if stream.fin_sent:
            self._close_orderly(stream)

    def _ended(self, stream_id: int, reason: EndReason) -> None:
        if self._table.ending.pop(stream_id, None) is not None:
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if not self._table.forget_closed(stream_id):
                raise Malformed("END for a stream that is not open")
            self.send_control(encode(Message.END, stream_id, bytes((EndReason.DONE,))))
            return
        self.send_control(encode(Message.END, stream_id, bytes((EndReason.DONE,))))
        self._forget_outbox(stream)
        self._table.forget(stream)
        self._late.append(lambda: _ended(stream, reason))


def _nobody() -> None:
    """Nobody waits to pump."""


def _connected(stream: Stream, answers: list[Answer]) -> None:
    if stream.handler is not None:
        stream.handler.connected(answers)


def _finished(stream: Stream) -> None:
    if stream.handler is not None:
        stream.handler.finished()


def _ended(stream: Stream, reason: EndReason) -> None:
    if stream.handler is not None:
        stream.handler.ended(reason)
