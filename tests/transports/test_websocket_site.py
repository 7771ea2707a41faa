"""The port as a web site, and the tunnel that only the secret path opens."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import web_rig
from e2e_net import need, run, succeed
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import UserError
from phantomband.transports.website import server
from phantomband.transports.website.http import BadRequest, head_end_untrusted, parse_untrusted
from phantomband.transports.website.site import path_untrusted
from phantomband.transports.websocket.secret import SECRET_FILE, Target
from phantomband.transports.websocket.transport import WebSocketTransport
from phantomband.transports.websocket.tunnel import forwarded_untrusted

UPGRADE = (
    "Host: www.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
"""Key and answer of RFC 6455, section 1.3."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[web_rig.Ours]:
    tmp = tmp_path_factory.mktemp("site")
    root = tmp / "site"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_text("<p>hello</p>")
    (root / "sub" / "big.bin").write_bytes(bytes(range(256)) * 20_000)
    (tmp / "outside.txt").write_text("not for you")
    (root / "link.txt").symlink_to(tmp / "outside.txt")
    (root / "inside.html").symlink_to(root / "index.html")
    with web_rig.ours(tmp / "gateway", {"site": str(root)}) as mine:
        yield mine


def get(port: int, request: str) -> tuple[bytes, bool]:
    with web_rig.tls_socket(port) as sock:
        return web_rig.talk(sock, request.encode("latin-1"), 0.2)


def curl(site: web_rig.Ours, path: str, *options: str) -> bytes:
    name = f"www.example.org:{site.port}"
    resolve = ("--resolve", f"{name}:127.0.0.1", "--noproxy", "*", "-k", "-sS", "--max-time", "20", "--path-as-is")
    return succeed(need("curl", "curl"), *resolve, *options, f"https://{name}{path}")


def test_curl_reads_the_site(site: web_rig.Ours) -> None:
    assert curl(site, "/") == b"<p>hello</p>"
    assert curl(site, "/inside.html") == b"<p>hello</p>"
    assert curl(site, "/sub/big.bin") == bytes(range(256)) * 20_000
    assert curl(site, "/sub/big.bin", "-r", "256-258") == b"\0\1\2"
    code = ("-o", "/dev/null", "-w", "%{http_code} %{http_version}")
    for path, options, expected in (
        ("/", ("-I",), "200"), ("/nothing", (), "404"), ("/", ("-d", "x"), "405"), ("/", ("-X", "DELETE"), "405"),
        ("/sub", (), "301"), ("/sub/", (), "403"), ("/../outside.txt", (), "400"), ("/link.txt", (), "404"),
        ("/%2e%2e/outside.txt", (), "400"), ("/sub/..%2f..%2foutside.txt", (), "400"), ("/%00", (), "400"),
        ("/index.html/x", (), "404"), ("/" + "a" * 300, (), "404"),
        ("/" + "a" * 300 + "/", (), "404"), ("/nothing/", (), "404"), ("/index.html/", (), "404"),
        ("/" + "a" * 9000, (), "414"),
    ):  # fmt: skip
        assert curl(site, path, *code, *options).decode() == f"{expected} 1.1", path


def test_a_folder_less_listener_shows_one_page(tmp_path: Path) -> None:
    with web_rig.ours(tmp_path, {}) as mine:
        assert b"Welcome to nginx!" in curl(mine, "/")
        assert curl(mine, "/x", "-o", "/dev/null", "-w", "%{http_code}") == b"404"


def test_the_secret_path_opens_the_tunnel(site: web_rig.Ours) -> None:
    with web_rig.tls_socket(site.port) as sock:
        answer, _ = web_rig.talk(sock, f"GET {site.parameters['path']} HTTP/1.1\r\n{UPGRADE}".encode())
        assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
        assert b"xtensions" not in answer
        answer, _ = web_rig.talk(sock, b"\x82\x83\0\0\0\0abc")
        assert answer == b"\x82\x03abc"


@pytest.mark.parametrize("change", [
    ("Version: 13", "Version: 8"), ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), ("Upgrade: websocket", "Upgrade: h2c"),
    ("Connection: Upgrade", "Connection: keep-alive"), ("GET ", "POST "), ("HTTP/1.1", "HTTP/1.0"), ("path", "patH"),
    ("path", "path?"), ("path", "path/"), ("path", ""),
])  # fmt: skip
def test_anything_less_gets_what_the_site_has_there(site: web_rig.Ours, change: tuple[str, str]) -> None:
    opened = len(site.tunnels)
    secret = site.parameters["path"]
    target = {"patH": secret.swapcase(), "path?": f"{secret}?", "path/": f"{secret}/", "": secret[:-1]}.get(change[1])
    request = f"GET {target or secret} HTTP/1.1\r\n{UPGRADE}".replace(*change if target is None else ("", ""))
    answer, _ = get(site.port, request)
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    elsewhere, _ = get(site.port, request.replace(target or secret, "/" + "x" * (len(target or secret) - 1)))
    assert without_date(answer) == without_date(elsewhere)
    assert len(site.tunnels) == opened


def without_date(answer: bytes) -> list[bytes]:
    return [line for line in answer.split(b"\r\n") if not line.startswith(b"Date:")]


@pytest.mark.slow
def test_the_time_of_an_answer_says_nothing_of_the_path(site: web_rig.Ours) -> None:
    """The secret path without its last letter, all but the first, and another: medians of many, interleaved."""
    secret = site.parameters["path"]
    targets = [secret[:-1] + "!", "/" + "!" * (len(secret) - 1), secret]
    times: dict[str, list[float]] = {target: [] for target in targets}
    with web_rig.tls_socket(site.port) as sock:
        for _ in range(300):
            for target in targets:
                request = f"GET {target} HTTP/1.1\r\nHost: www.example.org\r\n\r\n".encode()
                start = time.perf_counter()
                sock.sendall(request)
                sock.recv(65536)
                times[target].append(time.perf_counter() - start)
    medians = [statistics.median(found) for found in times.values()]
    spread = statistics.median(abs(t - medians[1]) for t in times[targets[1]])
    assert max(medians) - min(medians) < max(spread, 30e-6)


def test_a_slow_head_is_bounded(site: web_rig.Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not keep a connection: the time runs from its beginning."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    with web_rig.tls_socket(site.port) as sock:
        start = time.monotonic()
        ended = False
        for byte in b"GET / HTTP/1.1\r\nX: " + b"a" * 100:
            _, ended = web_rig.talk(sock, bytes((byte,)), 0.05)
            if ended:
                break
        assert ended
        assert 0.3 < time.monotonic() - start < 5


def test_visitors_are_bounded_and_the_quietest_goes(site: web_rig.Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_VISITORS", 3)
    held = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(6)]
    with web_rig.tls_socket(site.port) as visitor:
        answer, _ = web_rig.talk(visitor, b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    ended = [web_rig.talk(sock, b"", 0.05)[1] for sock in held]
    assert ended[:3] == [True, True, True]
    for sock in held:
        sock.close()


def test_chromium_opens_the_site(site: web_rig.Ours, tmp_path: Path) -> None:
    name = "www.example.org"
    done = run(
        need("chromium", "chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors",
        f"--user-data-dir={tmp_path}", f"--host-resolver-rules=MAP {name} 127.0.0.1", "--dump-dom",
        f"https://{name}:{site.port}/",
    )  # fmt: skip
    assert b"<p>hello</p>" in done.stdout


@given(st.binary(max_size=200))
def test_any_head_is_a_request_or_a_bad_one(data: bytes) -> None:
    statuses = set()
    for head in (data, b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n", b"GET " + data + b" HTTP/1.1\r\nHost: a\r\n\r\n"):
        try:
            end = head_end_untrusted(bytearray(head))
            if end:
                parse_untrusted(head[:end])
        except BadRequest as error:
            statuses.add(error.status)
    assert statuses <= {400, 414, 494, 501, 505}


@given(st.text(max_size=60))
def test_no_path_leaves_the_root(text: str) -> None:
    for target in (text, "/" + text, "/%2e%2e/" + text, "/a/../" + text):
        path = path_untrusted(target)
        if path is not None:
            assert path.startswith(b"/")
            assert b".." not in path.split(b"/")


OPTIONS: list[tuple[Mapping[str, str], str]] = [
    ({"sites": "/"}, "no parameter"), ({"site": "/nowhere/at/all"}, "no such folder"),
    ({"site": "ftp://x"}, "whole path"), ({"cert": "/etc/hostname"}, "belong together"),
    ({"plain": "maybe"}, "yes or no"), ({"forwarded": "yes"}, "plain=yes"),
    ({"path": "no slash"}, "path="), ({"host": "a b"}, "names such as"),
    ({"cert": "/nowhere.pem", "key": "/nowhere.key"}, "no such file"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "says"), OPTIONS)
def test_parameters_that_cannot_be_used_say_so(tmp_path: Path, options: Mapping[str, str], says: str) -> None:
    with pytest.raises(UserError, match="websocket") as caught:
        WebSocketTransport().configure(tmp_path, options)
    assert says in str(caught.value)


def test_the_secret_lasts_and_is_private(tmp_path: Path) -> None:
    first, second = WebSocketTransport(), WebSocketTransport()
    for transport in (first, second):
        transport.configure(tmp_path, {})
    assert first.parameters() == second.parameters()
    assert len(Target.parse_untrusted(first.parameters()).path) == 23
    file = tmp_path / SECRET_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        WebSocketTransport().configure(tmp_path, {})


@pytest.mark.parametrize(("proxy", "value", "found"), [
    (b"\x7f\0\0\1", "203.0.113.9", b"\xcb\0q\x09"), (b"\x0a\0\0\1", "10.9.9.9, 203.0.113.9", b"\xcb\0q\x09"),
    (b"\x08\x08\x08\x08", "203.0.113.9", b""), (b"\x7f\0\0\1", "somebody", b""), (b"", "203.0.113.9", b""),
])  # fmt: skip
def test_only_a_proxy_near_us_says_who_the_peer_is(proxy: bytes, value: str, found: bytes) -> None:
    request = parse_untrusted(f"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {value}\r\n\r\n".encode())
    assert forwarded_untrusted(request, proxy) == found
