"""What the port shows to whoever has not the secret path: a folder of files, one page, or another server.

site = "/var/www/site"             the folder, as nginx's `root` with `index index.html`
site = "http://127.0.0.1:8080"     passed on, as nginx's `proxy_pass` (backend.py)
(absent)                           one page
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote_to_bytes

from phantomband.transports.website import answers
from phantomband.transports.website.exchange import Answer, Exchange, Lines, Out
from phantomband.transports.website.http import Request

HTTPS_PORT = 443
"""Not written in URLs."""

CHUNK_BYTES = 64 * 1024
"""Of a file, read at a time."""

HELLO = b"""<!DOCTYPE html>
<html>
<head>
<title>Welcome to nginx!</title>
<style>
html { color-scheme: light dark; }
body { width: 35em; margin: 0 auto;
font-family: Tahoma, Verdana, Arial, sans-serif; }
</style>
</head>
<body>
<h1>Welcome to nginx!</h1>
<p>If you see this page, the nginx web server is successfully installed and
working. Further configuration is required.</p>

<p>For online documentation and support please refer to
<a href="http://nginx.org/">nginx.org</a>.<br/>
Commercial support is available at
<a href="http://nginx.com/">nginx.com</a>.</p>

<p><em>Thank you for using nginx.</em></p>
</body>
</html>
"""
"""The page that nginx shows before anybody has configured it: a common sight."""

TYPES = {
    "html": "text/html", "htm": "text/html", "css": "text/css", "xml": "text/xml", "gif": "image/gif",
    "jpeg": "image/jpeg", "jpg": "image/jpeg", "js": "application/javascript", "txt": "text/plain",
    "png": "image/png", "svg": "image/svg+xml", "webp": "image/webp", "ico": "image/x-icon", "woff": "font/woff",
    "woff2": "font/woff2", "json": "application/json", "pdf": "application/pdf", "zip": "application/zip",
    "mp3": "audio/mpeg", "mp4": "video/mp4", "webm": "video/webm",
}  # fmt: skip
"""By the end of a file's name (nginx's mime.types); others are application/octet-stream."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Folder:
    """Files of a folder; nothing outside it is served, whatever links lead there.

    Args:
        root: the folder, or None for the one page.
        clock: seconds since 1970.
        port: of the listener with TLS, for redirections; None behind a reverse proxy, where they have no host.
    """

    def __init__(self, root: Path | None, clock: Callable[[], float], port: Callable[[], int] | None) -> None:
        self._port = port
        self._root = root.resolve() if root is not None else None
        self._clock = clock
        self._since = clock()

    def answer(self, request: Request, out: Out) -> Exchange | None:
        if request.method not in ("GET", "HEAD", "POST"):
            return self._error(405, request, out)
        path = path_untrusted(request.target)
        if path is None:
            return self._error(400, request, out)
        if self._root is None:
            return self._page(path, request, out)
        return self._file(self._root, path, request, out)

    def _page(self, path: bytes, request: Request, out: Out) -> Exchange | None:
        if path not in (b"/", b"/index.html"):
            return self._error(404, request, out)
        if request.method == "POST":
            return self._error(405, request, out)
        return self._send(None, len(HELLO), self._since, "html", request, out)

    def _file(self, root: Path, path: bytes, request: Request, out: Out) -> Exchange | None:
        wanted = root / os.fsdecode(path.lstrip(b"/"))
        try:
            real = (wanted / "index.html" if path.endswith(b"/") else wanted).resolve(strict=True)
            if not real.is_relative_to(root):
                return self._error(404, request, out)
            if real.is_dir():
                return self._moved(request, out)
            handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError:
            return self._error(403, request, out)
        except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle
            return self._error(403 if path.endswith(b"/") and _is_folder(wanted, root) else 404, request, out)
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode) or request.method == "POST":
            os.close(handle)
            return self._error(405 if stat.S_ISREG(info.st_mode) else 404, request, out)
        kind = real.suffix.removeprefix(".").lower() or "html" * path.endswith(b"/")
        return self._send(handle, info.st_size, info.st_mtime, kind, request, out)

    def _moved(self, request: Request, out: Out) -> Exchange | None:
        path, mark, query = request.target.partition("?")
        host = re.sub(r":\d*$", "", request.headers.get("host", "localhost"))
        port = self._port() if self._port is not None else 0
        base = f"https://{host}" + (f":{port}" if port != HTTPS_PORT else "") if port else ""
        return self._error(301, request, out, (("Location", f"{base}{path}/{mark}{query}"),))

    def _send(
        self, handle: int | None, size: int, changed: float, kind: str, request: Request, out: Out
    ) -> Exchange | None:
        """The file `handle`, or the one page."""
        tag, date = f'"{int(changed):x}-{size:x}"', answers.http_date(int(changed))
        part = _part(request, size)
        changes, etag = ("Last-Modified", date), ("ETag", tag)
        if _unchanged(request, tag, int(changed)):
            answer, length, start = Answer("304 Not Modified", (changes,), (etag,)), 0, 0
        elif part is None:
            _close(handle)
            return self._error(416, request, out, (("Content-Range", f"bytes */{size}"),))
        else:
            start, length = part
            whole = start == 0 and length == size and "range" not in request.headers
            kinds = (("Content-Type", TYPES.get(kind, "application/octet-stream")), ("Content-Length", str(length)))
            span = ("Content-Range", f"bytes {start}-{start + length - 1}/{size}")
            last = ("Accept-Ranges", "bytes") if whole else span
            answer = Answer("200 OK" if whole else "206 Partial Content", (*kinds, changes), (etag, last))
        out.head(answer)
        if request.method == "HEAD" or not length or handle is None:
            if request.method != "HEAD" and handle is None and length:
                out.send(HELLO[start : start + length])
            _close(handle)
            out.done(True)
            return None
        return _Sending(handle, start, length, out).begin()

    def _error(self, status: int, request: Request, out: Out, more: Lines = ()) -> Exchange | None:
        answers.refuse(status, request, out, more)
        return None


def _is_folder(path: Path, root: Path) -> bool:
    """Whether `path` is a folder inside `root`."""
    try:
        real = path.resolve(strict=True)
        return real.is_dir() and real.is_relative_to(root)
    except (OSError, RuntimeError, ValueError):
        return False


def _close(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


class _Sending:
    """A file on its way, as fast as it is taken."""

    def __init__(self, handle: int, start: int, length: int, out: Out) -> None:
        self._handle, self._at, self._left, self._out = handle, start, length, out
        self._whole = True

    def begin(self) -> Exchange | None:
        self.writable()
        return self if self._handle >= 0 else None

    def writable(self) -> None:
        while self._left and not self._out.congested:
            data = os.pread(self._handle, min(CHUNK_BYTES, self._left), self._at)
            if not data:  # it was cut while we sent it
                self._left, self._whole = 0, False
            self._at += len(data)
            self._left -= len(data)
            self._out.send(data)
        if not self._left and self._handle >= 0:
            self.cancel()
            self._out.done(self._whole)

    def cancel(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def path_untrusted(target: str) -> bytes | None:
    """The path of a request's target, decoded, without `.`, `..` and doubled slashes.

    Returns: None: it leaves the root, or is none.
    """
    raw = target.partition("?")[0].partition("#")[0]
    if re.search(r"%(?![0-9A-Fa-f]{2})", raw):
        return None
    path = unquote_to_bytes(raw)
    if not path.startswith(b"/") or b"\0" in path:
        return None
    parts: list[bytes] = []
    for part in path.split(b"/")[1:]:
        if part == b"..":
            if not parts:
                return None
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    folder = path.endswith((b"/", b"/.", b"/.."))
    return b"/" + b"/".join(parts) + (b"/" if folder and parts else b"")


def _unchanged(request: Request, tag: str, changed: int) -> bool:
    if "if-none-match" in request.headers:
        asked = {word.strip().removeprefix("W/") for word in request.headers["if-none-match"].split(",")}
        return bool(asked & {tag, "*"})
    try:
        since = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
        return int(since.timestamp()) == changed
    except (ValueError, OverflowError, TypeError):
        return False


def _part(request: Request, size: int) -> tuple[int, int] | None:
    """Start and length of what is asked for; None: there is nothing of that. Several ranges get the whole."""
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", "")) if request.method == "GET" else None
    if match is None or not (match[1] or match[2]) or max(len(match[1]), len(match[2])) > 18:
        return 0, size
    if match[1]:
        start, end = int(match[1]), min(int(match[2] or size), size - 1)
    else:
        start, end = max(0, size - int(match[2])), size - 1
    return (start, end - start + 1) if start <= end else None
