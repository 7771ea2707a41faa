"""Snowflake's client as a managed program, as far as it goes without a server of Snowflake, which Debian has not.

The broker is made for the test, and has no proxy to give.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import web_rig
from e2e_net import PHANTOMBAND, die_with_parent, need, until
from e2e_programs import working_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FINGERPRINT = "2B280B23E1107BB62ABFC40DDCC8824814F80A72"
"""By which a broker knows the server: 20 bytes of the network's choice, not the node's id."""

NO_PROXY = b'{"error":"no snowflake proxies currently available"}'


class Broker(BaseHTTPRequestHandler):
    """Keeps what clients ask for. "1.0\\n", then JSON with offer, nat and fingerprint."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        version, _, text = self.rfile.read(int(self.headers["Content-Length"])).partition(b"\n")
        assert (self.path, version) == ("/client", b"1.0")
        self.asked.append(json.loads(text))
        self.send_response(200)
        self.send_header("Content-Length", str(len(NO_PROXY)))
        self.end_headers()
        self.wfile.write(NO_PROXY)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def broker() -> Iterator[ThreadingHTTPServer]:
    Broker.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Broker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_the_client_asks_the_broker_and_says_that_it_has_no_proxy(broker: ThreadingHTTPServer, tmp_path: Path) -> None:
    program = need("snowflake-client", "snowflake-client")
    hexadecimal = "07" * 32
    line = (
        f"Bridge snowflake 192.0.2.3:1 {hexadecimal} link-key={hexadecimal} network={hexadecimal} "
        f"fingerprint={FINGERPRINT} url=http://127.0.0.1:{broker.server_port}/ "
        f"ice=stun:127.0.0.1:{web_rig.free_port()},stun:127.0.0.1:{web_rig.free_port()}"
    )
    command = [*PHANTOMBAND, "client", "--quiet", "--bridge", line, "--pt", f"snowflake exec {program}"]
    settings = ["--data-dir", str(tmp_path / "data"), "--set", "socks_port=0", "--set", f"run_dir={tmp_path / 'run'}"]
    state = tmp_path / "data" / "pluggable" / "snowflake-client"
    log = tmp_path / "log"
    with log.open("wb") as out, subprocess.Popen(
        [*command, *settings], stderr=out, preexec_fn=die_with_parent
    ) as process:  # fmt: skip
        try:
            asked = until("the broker is asked", lambda: Broker.asked)[0]
            assert asked["fingerprint"] == FINGERPRINT
            assert json.loads(asked["offer"])["type"] == "offer"
            assert len(working_for(state)) == 1, "the program runs"
            said = r"no genesis file yet .*the program snowflake-client says: broker failure no snowflake proxies"
            until("the person is told", lambda: re.search(said, log.read_text()))
            assert len(Broker.asked) > 1, "it had time for a second try"
        finally:
            process.terminate()
        process.wait(20)
        until("the program ended", lambda: not working_for(state))
    assert FINGERPRINT not in log.read_text()
    assert "127.0.0.1" not in log.read_text()
