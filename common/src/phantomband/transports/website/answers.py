"""Answers of the site: the heads and error pages that nginx 1.22 with `server_tokens off` gives, byte for byte.

The order of header lines, too, tells a web server from something that claims to be one.
"""

from __future__ import annotations

import email.utils
from http import HTTPStatus

from phantomband.transports.website.exchange import Answer, Lines, Out
from phantomband.transports.website.http import Request

SERVER = "nginx"

_PADDING = b"<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n" * 6
"""nginx's `msie_padding`, which is on by default."""

_TITLES = {
    494: ("400", "400 Request Header Or Cookie Too Large", "<center>Request Header Or Cookie Too Large</center>\r\n"),
    497: (
        "400",
        "400 The plain HTTP request was sent to HTTPS port",
        "<center>The plain HTTP request was sent to HTTPS port</center>\r\n",
    ),
}
"""Statuses of nginx's own: the one that is sent, title, and a further line of the page."""

_NAMES = {302: "302 Found", 413: "413 Request Entity Too Large", 414: "414 Request-URI Too Large",
          416: "416 Requested Range Not Satisfiable", 405: "405 Not Allowed", 408: "408 Request Time-out",
          504: "504 Gateway Time-out"}  # fmt: skip
"""Where nginx's words are not those of the standard."""

ENDING = frozenset({400, 413, 414, 494, 497, 500, 501, 505})
"""After these the connection is closed."""


def title(status: int) -> str:
    """Code and words, as in the status line."""
    if status in _TITLES:
        return "400 Bad Request"
    return _NAMES.get(status) or f"{status} {HTTPStatus(status).phrase}"


def http_date(now: float) -> str:
    return email.utils.formatdate(now, usegmt=True)


def head(answer: Answer, now: float, keep: bool) -> bytes:
    """The head of an answer, as HTTP/1.1 has it. Args: keep: whether the connection serves another request."""
    connection = ("Connection", "keep-alive" if keep else "close")
    return _head(answer.status, now, (*answer.lines, connection, *answer.more))


def _head(status: str, now: float, lines: Lines) -> bytes:
    all_lines = (("Server", SERVER), ("Date", http_date(now)), *lines)
    return "".join((f"HTTP/1.1 {status}\r\n", *(f"{n}: {v}\r\n" for n, v in all_lines), "\r\n")).encode("latin-1")


def page(status: int, user_agent: str = "", padded: bool = True) -> bytes:
    """The body of an error's answer."""
    shown, more = title(status), ""
    if status in _TITLES:
        _, shown, more = _TITLES[status]
    heading = title(status) if more else shown
    body = (
        f"<html>\r\n<head><title>{shown}</title></head>\r\n<body>\r\n<center><h1>{heading}</h1></center>\r\n"
        f"{more}<hr><center>{SERVER}</center>\r\n</body>\r\n</html>\r\n"
    ).encode()
    pads = padded and status >= 400 and ("Chrome/" in user_agent or "MSIE " in user_agent)
    return body + _PADDING if pads else body


def refuse(status: int, request: Request | None, out: Out, more: Lines = ()) -> None:
    """A whole answer: an error or a redirection, with its page. Args: more: header lines of its own."""
    body = page(status, request.headers.get("user-agent", "") if request else "")
    kinds = (("Content-Type", "text/html"), ("Content-Length", str(len(body))))
    before = tuple(line for line in more if line[0] == "Location")
    after = tuple(line for line in more if line[0] != "Location")
    out.head(Answer(title(status), (*kinds, *before), after, status in ENDING))
    if request is None or request.method != "HEAD":
        out.send(body)
    out.done(True)


def upgraded(accept: str, now: float) -> bytes:
    """The answer to a WebSocket's upgrade, as nginx passes it on from a server behind it."""
    lines = (("Connection", "upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Accept", accept))
    return _head("101 Switching Protocols", now, lines)
