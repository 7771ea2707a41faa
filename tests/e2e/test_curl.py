"""curl: pages, TLS, IPv6, isolation, large files both ways, many at once, and the HTTP proxy."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from e2e_net import Network, need, run, succeed
from e2e_servers import PAGE, WebServer, content, echo, make_tls, sha256, tcp
from e2e_servers import web as serve
from e2e_socks import connect

pytestmark = pytest.mark.e2e

LARGE = 64_000_000
MANY = 50


@pytest.fixture(scope="module")
def curl() -> tuple[str, ...]:
    return (need("curl", "curl"), "-sS", "--fail", "--max-time", "90", "--noproxy", "")


def test_a_page_by_name_and_by_address(network: Network, web: WebServer, curl: tuple[str, ...]) -> None:
    for host in ("localhost", "127.0.0.1"):
        got = succeed(*curl, "--socks5-hostname", str(network.socks), f"http://{host}:{web.port}/")
        assert got.decode() == PAGE


def test_an_ipv6_address(network: Network, curl: tuple[str, ...]) -> None:
    with serve("::1") as six:
        for flag in ("--socks5-hostname", "--socks5"):
            got = succeed(*curl, flag, str(network.socks), f"http://[::1]:{six.port}/bytes/10000")
            assert got == content(10_000)


def test_https_is_verified_end_to_end(network: Network, curl: tuple[str, ...], tmp_path: Path) -> None:
    context, ca = make_tls(tmp_path)
    with serve(tls=context) as server:
        url = f"https://localhost:{server.port}/bytes/1000000"
        for proxy in (("--socks5-hostname", str(network.socks)), ("--proxy", f"http://{network.http}")):
            assert succeed(*curl, *proxy, "--cacert", ca, url) == content(1_000_000)
        stranger = run(*curl, "--socks5-hostname", str(network.socks), url)
        assert stranger.returncode == 60, "without our CA curl must refuse the certificate"


def test_users_do_not_share_circuits(network: Network) -> None:
    with tcp(echo) as target:
        anna, anna2, bert = (connect(network.socks, target.host, target.port, u) for u in ("anna", "anna", "bert"))
        with anna, anna2, bert:
            used = {c["id"]: c for c in network.circuits() if c["streams"]}
            assert sorted(c["streams"] for c in used.values()) == [1, 2]
            for circuit in used.values():
                assert len({hop["node_id"] for hop in circuit["hops"]}) == 3


def test_curl_users_do_not_share_circuits(network: Network, web: WebServer, curl: tuple[str, ...]) -> None:
    before = taken(network)
    for user in ("carl:x", "dora:x", "carl:x"):
        url = f"http://localhost:{web.port}/"
        assert succeed(*curl, "--socks5-hostname", str(network.socks), "-U", user, url).decode() == PAGE
    assert len(taken(network) - before) == 2


def taken(network: Network) -> set[int]:
    """Circuits that were given to somebody."""
    return {c["id"] for c in network.ask("circuits")["circuits"] if c["state"] == "open"}


def test_newnym_takes_a_new_circuit(network: Network) -> None:
    with tcp(echo) as target, connect(network.socks, target.host, target.port, "eve"):
        (before,) = (c["id"] for c in network.circuits() if c["streams"])
        assert network.ask("newnym")["circuits_retired"] >= 1
        with connect(network.socks, target.host, target.port, "eve"):
            assert {c["id"] for c in network.circuits() if c["streams"]} > {before}


def test_64_mb_down(network: Network, web: WebServer, curl: tuple[str, ...]) -> None:
    url = f"http://localhost:{web.port}/bytes/{LARGE}"
    got = succeed(*curl, "--socks5-hostname", str(network.socks), url)
    assert sha256(got) == sha256(content(LARGE))


def test_64_mb_up(network: Network, web: WebServer, curl: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "64MB"
    file.write_bytes(content(LARGE))
    url = f"http://localhost:{web.port}/upload"
    got = succeed(*curl, "--socks5-hostname", str(network.socks), "--upload-file", file, url)
    assert got.decode() == sha256(content(LARGE))


def test_50_downloads_at_once(network: Network, web: WebServer, curl: tuple[str, ...]) -> None:
    def fetch(number: int) -> subprocess.CompletedProcess[bytes]:
        url = f"http://localhost:{web.port}/bytes/{100_000 + number}"
        return run(*curl, "--socks5-hostname", str(network.socks), "-U", f"user{number % 5}:x", url, seconds=100)

    with ThreadPoolExecutor(MANY) as pool:
        for number, done in enumerate(pool.map(fetch, range(MANY))):
            assert done.returncode == 0, done.stderr.decode()
            assert done.stdout == content(100_000 + number)


def test_the_http_proxy(network: Network, web: WebServer, curl: tuple[str, ...]) -> None:
    url = f"http://localhost:{web.port}/bytes/200000"
    got = succeed(*curl, "--proxytunnel", "--proxy", f"http://{network.http}", url)
    assert got == content(200_000)


def test_the_http_proxy_says_what_it_is_for(network: Network, web: WebServer, curl: tuple[str, ...]) -> None:
    plain = [a for a in curl if a != "--fail"]
    got = succeed(*plain, "--proxy", f"http://{network.http}", f"http://localhost:{web.port}/")
    assert b"CONNECT" in got
    assert b"SOCKS5" in got
