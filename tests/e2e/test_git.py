"""git clone over HTTP, from git's own server program and from plain files, and a push."""

from __future__ import annotations

import os
import subprocess
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from e2e_net import Network, need, succeed
from e2e_servers import content, sha256
from e2e_servers import web as serve

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SIZE = 2_000_000
WHO = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
CLEAN = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
}
for _name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
    for _spelling in (_name, _name.upper()):
        CLEAN.pop(_spelling, None)


def _git(*arguments: str | Path) -> str:
    return succeed(need("git", "git"), *arguments, env=CLEAN).decode().strip()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `source.git`: two commits, one file that does not compress."""
    root = tmp_path_factory.mktemp("git")
    work, bare = root / "work", root / "source.git"
    _git("init", "--quiet", "--initial-branch=main", work)
    (work / "data").write_bytes(content(SIZE))
    (work / "README").write_text("hello\n")
    for name in ("data", "README"):
        _git("-C", work, "add", name)
        _git("-C", work, *WHO, "commit", "--quiet", "-m", name)
    _git("clone", "--quiet", "--bare", work, bare)
    _git("-C", bare, "config", "http.receivepack", "true")
    _git("-C", bare, "update-server-info")
    return root


class _Backend(BaseHTTPRequestHandler):
    """Runs `git http-backend` (CGI, RFC 3875) for each request."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._chunks())
        said = subprocess.run(
            ["git", "http-backend"],
            input=body,
            stdout=subprocess.PIPE,
            check=True,
            env={
                **CLEAN,
                "GIT_PROJECT_ROOT": str(self.server.root),  # type: ignore[attr-defined]
                "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REMOTE_ADDR": "127.0.0.1",
            },
        ).stdout
        head, _, answer = said.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def _chunks(self) -> list[bytes]:
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return chunks

    def log_message(self, format: str, *args: object) -> None:
        """pytest shows what matters."""


def test_a_clone_from_plain_files(network: Network, root: Path, tmp_path: Path) -> None:
    with serve(root=root) as web:
        url = f"http://localhost:{web.port}/source.git"
        _git("-c", f"http.proxy=socks5h://{network.socks}", "clone", "--quiet", url, tmp_path / "copy")
        assert any(path.startswith("/source.git/info/refs") for path in web.paths)
    _check(tmp_path / "copy", root)


def test_a_clone_and_a_push_with_gits_own_server(network: Network, root: Path, tmp_path: Path) -> None:
    proxy = ("-c", f"http.proxy=socks5h://{network.socks}")
    copy = tmp_path / "copy"
    with serve(root=root, handler=_Backend) as web:
        _git(*proxy, "clone", "--quiet", f"http://localhost:{web.port}/source.git", copy)
        _check(copy, root)
        (copy / "more").write_bytes(content(SIZE)[::-1])
        _git("-C", copy, "add", "more")
        _git("-C", copy, *WHO, "commit", "--quiet", "-m", "more")
        _git("-C", copy, *proxy, "push", "--quiet", "origin", "HEAD:refs/heads/pushed")
    assert _git("-C", root / "source.git", "rev-parse", "pushed") == _git("-C", copy, "rev-parse", "HEAD")


def _check(copy: Path, root: Path) -> None:
    assert sha256((copy / "data").read_bytes()) == sha256(content(SIZE))
    assert _git("-C", copy, "rev-parse", "HEAD") == _git("-C", root / "work", "rev-parse", "HEAD")
    _git("-C", copy, "fsck", "--strict")
