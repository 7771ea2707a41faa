"""What visitors of a web site may send, good and bad, and a folder to ask for."""

from __future__ import annotations

import os
import re
from pathlib import Path

HOST = b"Host: www.example.org\r\n"
CHROME = b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0\r\n"
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: PQm7fmdLyZ4lCNqznVdNhQ==\r\n"
)

REQUESTS = {
    "page": b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "head": b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n",
    "style": b"GET /style.css HTTP/1.1\r\n" + HOST + b"\r\n",
    "two": (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * 2,
    "close": b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n",
    "old": b"GET / HTTP/1.0\r\n\r\n",
    "old and kept": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "oldest": b"GET /\r\n",
    "missing": b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n",
    "missing, Chrome": b"GET /nothing HTTP/1.1\r\n" + HOST + CHROME + b"\r\n",
    "missing, upgrade": b"GET /nothing HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n",
    "page, upgrade": b"GET / HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n",
    "folder without slash": b"GET /sub HTTP/1.1\r\n" + HOST + b"\r\n",
    "folder": b"GET /sub/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "folder without index": b"GET /bare/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "post": b"POST / HTTP/1.1\r\nContent-Length: 3\r\n" + HOST + b"\r\nabc",
    "post to nothing": b"POST /nothing HTTP/1.1\r\nContent-Length: 3\r\n" + HOST + b"\r\nabc",
    "post too much": b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n" + HOST + b"\r\n",
    "put": b"PUT / HTTP/1.1\r\nContent-Length: 0\r\n" + HOST + b"\r\n",
    "delete": b"DELETE /nothing HTTP/1.1\r\n" + HOST + b"\r\n",
    "options": b"OPTIONS / HTTP/1.1\r\n" + HOST + b"\r\n",
    "unknown method": b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n",
    "small letters": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "bad host": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3": b"GET / HTTP/3.0\r\n" + HOST + b"\r\n",
    "out of the root": b"GET /../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n",
    "out, encoded": b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n",
    "bad escape": b"GET /%zz HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute": b"GET http://www.example.org/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "long line": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "long header": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + HOST + (b"X: " + b"a" * 6000 + b"\r\n") * 6 + b"\r\n",
    "range": b"GET / HTTP/1.1\r\nRange: bytes=2-5\r\n" + HOST + b"\r\n",
    "range beyond": b"GET / HTTP/1.1\r\nRange: bytes=99999-\r\n" + HOST + b"\r\n",
    "garbage": bytes(range(128, 256)) + b"\r\n\r\n",
    "no letters": b"\0\0\0\0\r\n\r\n",
    "empty lines": b"\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "chunked": b"POST /nothing HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n3\r\nabc\r\n0\r\n\r\n",
    "unknown encoding": b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + HOST + b"\r\n",
    "header without colon": b"GET / HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n",
    "unchanged": b"GET / HTTP/1.1\r\nIf-Modified-Since: Sat, 01 Nov 2025 00:00:00 GMT\r\n" + HOST + b"\r\n",
    "half": b"GET / HTTP/1.1\r\n",
}


def folder(tmp: Path) -> Path:
    root = tmp / "site"
    for path, text in {"index.html": "<p>hello</p>\n", "style.css": "p {}\n", "sub/index.html": "sub\n"}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        os.utime(root / path, (1761955200, 1761955200))  # 2025-11-01 00:00:00 UTC
    (root / "bare").mkdir()
    return root


def masked(answer: bytes, port: int) -> bytes:
    answer = re.sub(rb"\r\nDate: [^\r]*", b"\r\nDate: ...", answer)
    return answer.replace(str(port).encode(), b"PORT")
