"""The web server of container networks."""

from __future__ import annotations

import hashlib
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from phantomband_cli.demo.content import FILE_BYTES, FILE_SHA256
from phantomband_cli.target import Handler, stream


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _get(url: str) -> bytes:
    data: bytes = urllib.request.urlopen(url, timeout=5).read()
    return data


def test_page(url: str) -> None:
    assert b"three relays" in _get(f"{url}/")


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_bytes(url: str, size: int) -> None:
    assert _get(f"{url}/bytes/{size}") == b"".join(stream(size))


def test_the_demos_file_is_the_same_stream() -> None:
    digest = hashlib.sha256()
    for block in stream(FILE_BYTES):
        digest.update(block)
    assert digest.hexdigest() == FILE_SHA256


def test_a_longer_stream_begins_as_a_shorter_one() -> None:
    assert b"".join(stream(700_000)).startswith(b"".join(stream(300_001)))


@pytest.mark.parametrize("path", ["/x", "/bytes/", "/bytes/-1", "/bytes/x", "/bytes/99999999999", "/x/bytes/1"])
def test_nothing_else(url: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        _get(url + path)
