"""The demo's parts that need no network: content, web server, what curl said."""

from __future__ import annotations

import hashlib
import http.client
import subprocess
import sys
from pathlib import Path

import pytest
from phantomband_cli.demo.content import FILE_BYTES, FILE_NAME, FILE_SHA256, PAGE, write_content
from phantomband_cli.demo.fetch import _result


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("content")
    write_content(directory)
    return directory


def test_the_file_has_its_size_and_hash_and_is_made_once(content: Path) -> None:
    file = content / FILE_NAME
    before = file.stat().st_ino
    write_content(content)
    assert (file.stat().st_ino, file.stat().st_size) == (before, FILE_BYTES)
    with file.open("rb") as f:
        assert hashlib.file_digest(f, "sha256").hexdigest() == FILE_SHA256


def test_the_web_server_serves_its_directory_only_and_ends_with_us(content: Path) -> None:
    command = [sys.executable, "-m", "phantomband_cli.demo.webserver", str(content)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        port = int(server.stdout.readline())
        answers = {}
        for path in ("/", "/../content", "/none", f"/{FILE_NAME}"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", path)
            answer = connection.getresponse()
            answers[path] = answer.status, answer.read()
            connection.close()
        server.stdin.close()
        assert server.wait(10) == 0
    assert answers["/"] == (200, PAGE.encode())
    assert answers["/../content"] == answers["/none"] == (404, b"")
    assert len(answers[f"/{FILE_NAME}"][1]) == FILE_BYTES


def test_what_curl_says_is_understood() -> None:
    good = _result(0, 4, "aa", '\n{"time_starttransfer": 0.25, "time_total": 0.5}\n')
    assert (good.ok, good.error, good.first_byte, good.total) == (True, "", 0.25, 0.5)
    bad = _result(97, 0, "", 'curl: (97) cannot\n{"time_starttransfer": 0, "time_total": 0.1}')
    assert (bad.ok, bad.error) == (False, "curl: (97) cannot")
    assert _result(2, 0, "", "curl: option --x: is unknown").error == "curl: option --x: is unknown"
    assert _result(2, 0, "", "").error == "curl exit code 2"
