"""The life of transport programs: those that do not start, say too much, hang, die, and those that outlive nobody."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from fake_pt import CLIENT, HEAD, LOOPS, PATIENCE, Run, dial, eventually, fake, runner_of
from phantomband.core.errors import Refused, UserError
from phantomband.transports.managed import process, program
from phantomband.transports.managed.program import Command, Pauses, ProgramFailed, split_plugin
from phantomband.transports.managed.transport import ManagedTransport, Programs


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    return runner_of(request.param)


async def refused(transport: ManagedTransport) -> str:
    """What a dial says, and that nothing is left of the program afterwards."""
    with pytest.raises(Refused) as caught:
        await dial(transport)
    pid = transport.client.pid
    await transport.close()
    assert pid is None or not Path(f"/proc/{pid}").exists()
    return str(caught.value)


def test_a_dial_tells_the_program_where_and_how(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        transport = fake(tmp_path, CLIENT + "up(); wait()")
        end = await dial(transport)
        await end.until(lambda: b"\n" in end.data)
        user, password, request = json.loads(end.data)
        assert (user, password) == ("some-key=value", "\0")
        assert bytes.fromhex(request) == b"\5\1\0\1\xc0\0\2\1\x01\xbb"
        end.connection.write(b"hello")
        await end.until(lambda: end.data.endswith(b"hello"))
        pid = transport.client.pid
        assert pid is not None
        await transport.close()
        assert not Path(f"/proc/{pid}").exists(), "not even as a zombie"
        await end.until(lambda: end.over)
        with pytest.raises(Refused, match="was ended"):
            await dial(transport)

    run(main())


FAULTS = {
    "dies": ("sys.exit(3)", "ended with exit code 3 before it was ready"),
    "is killed": ("os.kill(os.getpid(), 9)", "ended by signal 9"),
    "complains": ('say("ENV-ERROR bad at 192.0.2.55:80"); wait()', r"it says: ENV-ERROR bad at \[scrubbed\]"),
    "complains as 2.x does": ('print("ENV-ERROR no", file=sys.stderr, flush=True); wait()', "ENV-ERROR no"),
    "knows no version": ('say("VERSION-ERROR no-version")', "VERSION-ERROR no-version"),
    "takes another version": ('say("VERSION 7"); wait()', "version 7"),
    "says no version": ('say("CMETHODS DONE"); wait()', "did not say its version"),
    "does something else": ('say("VERSION 1"); say("CMETHODS DONE"); wait()', "does not know the transport fake"),
    "cannot": ('say("VERSION 1"); say("CMETHOD-ERROR fake no rocks"); say("CMETHODS DONE"); wait()', "says: no rocks"),
    "speaks SOCKS4": (
        'say("VERSION 1"); say("CMETHOD fake socks4 127.0.0.1:9"); say("CMETHODS DONE"); wait()', "socks5"
    ),
    "listens elsewhere": (
        'say("VERSION 1"); say("CMETHOD fake socks5 192.0.2.1:9"); say("CMETHODS DONE"); wait()', "loopback"
    ),
    "does not listen": (
        's = socket.create_server(("127.0.0.1", 0)); port = s.getsockname()[1]; s.close()\n'
        'say("VERSION 1"); say("CMETHOD fake socks5 127.0.0.1:%d" % port); say("CMETHODS DONE"); wait()',
        "takes no connection",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_programs_that_do_not_work_are_said_to(run: Run, tmp_path: Path, fault: str) -> None:
    body, said = FAULTS[fault]

    async def main() -> None:
        text = await refused(fake(tmp_path, body))
        assert re.search(said, text), text
        assert "192.0.2" not in text

    run(main())


def test_a_program_that_cannot_be_executed(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "broken"
        path.write_text("#!/bin/a-shell-that-is-not-there\n")
        path.chmod(0o755)
        transport = Programs([Command.of(("fake",), str(path))], tmp_path / "state").of("fake")
        assert transport is not None
        assert "No such file" in await refused(transport)

    run(main())


STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(100)"


def test_a_program_that_never_answers_is_killed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "START_SECONDS", 0.3)
    monkeypatch.setattr(process, "TERM_SECONDS", 0.1)
    monkeypatch.setattr(process, "KILL_SECONDS", 0.2)

    async def main() -> None:
        assert "not ready within" in await refused(fake(tmp_path, STUBBORN))

    run(main())


def test_a_dial_waits_no_longer_than_it_was_told(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        transport = fake(tmp_path, "wait()")
        with pytest.raises(Refused, match=r"within 0\.2 seconds"):
            await dial(transport, 0.2)
        await transport.close()

    run(main())


def test_children_of_a_program_die_with_it(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        body = CLIENT + "if os.fork() == 0:\n    time.sleep(1000)\nup(); wait()"
        transport = fake(tmp_path, body)
        await dial(transport)
        group = transport.client.pid
        assert group is not None
        assert len(members(group)) == 2
        await transport.close()
        await eventually(lambda: not members(group))

    run(main())


def members(group: int) -> list[int]:
    """Processes of a group that are no zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found


NOISE = """
sys.stdout.buffer.write(os.urandom(100_000) + b"x" * 1_000_000 + b"\\nCMETHOD\\nSMETHOD fake\\n\\0\\n")
sys.stdout.buffer.flush()
sys.stderr.buffer.write(b"y" * 100_000 + b"\\n")
sys.stderr.buffer.flush()
"""


def test_noise_is_passed_over(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "RATE", 4_000_000)

    async def main() -> None:
        transport = fake(tmp_path, NOISE + CLIENT + "up()" + NOISE + "wait()")
        end = await dial(transport)
        end.connection.write(b"through")
        await end.until(lambda: end.data.endswith(b"through"))
        await transport.close()

    run(main())


def test_a_program_that_talks_without_end_waits(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "START_SECONDS", 0.5)
    monkeypatch.setattr(process, "TERM_SECONDS", 0.1)
    body = """
count = 0
while True:
    os.write(1, b"LOG SEVERITY=info MESSAGE=x\\n" * 1000)
    count += 28_000
    with open(os.path.join(state, "count"), "w") as f: f.write(str(count))
"""

    async def main() -> None:
        with structlog.testing.capture_logs() as logs:
            await refused(fake(tmp_path, body))
        written = int((tmp_path / "state" / "fake-client" / "count").read_text() or 0)
        assert written < 3 * process.RATE, "what it may in a second or two, and a pipe"
        assert len([entry for entry in logs if entry["event"] == "the program says"]) <= program.LOG_LINES

    run(main())


def test_log_lines_are_handed_on_without_addresses(run: Run, tmp_path: Path) -> None:
    body = """
say('LOG SEVERITY=warning MESSAGE="connecting to 192.0.2.44:443 at host.example.org"')
say('STATUS TRANSPORT=fake ADDRESS=192.0.2.44:443 CONNECT=Success')
print("panic at 192.0.2.44:443", file=sys.stderr, flush=True)
up(); wait()
"""

    async def main() -> None:
        with structlog.testing.capture_logs() as logs:
            transport = fake(tmp_path, CLIENT + body)
            await dial(transport)
            await eventually(lambda: len(logs) >= 3)
            await transport.close()
        assert "192.0.2" not in str(logs)
        assert "example.org" not in str(logs)
        assert {"connecting to [scrubbed] at [scrubbed]", "panic at [scrubbed]"} <= {e.get("text") for e in logs}
        assert all(entry["event"] != "the program ended" for entry in logs), "it was told to"

    run(main())


def test_a_failure_is_told_with_what_the_program_said_last(run: Run, tmp_path: Path) -> None:
    """Snowflake's client takes any connection, and says later, as a notice, that its broker does not answer."""
    body = """
say('LOG SEVERITY=notice MESSAGE="before the dial"'); up()
say('LOG SEVERITY=notice MESSAGE="broker failure dial tcp 192.0.2.44:443: connection refused"')
say('LOG SEVERITY=info MESSAGE="melted"')
wait()
"""

    async def main() -> None:
        problem = Refused("no link within 50 seconds")
        transport = fake(tmp_path, CLIENT + body)
        assert transport.explained(problem) is problem, "it does not run yet"
        await dial(transport)
        await eventually(lambda: transport.explained(problem) is not problem)
        told = transport.explained(problem)
        assert isinstance(told, ProgramFailed)
        said = (
            r"no link within 50 seconds: the program \S+ says: broker failure dial tcp \[scrubbed\]: connection refused"
        )
        await eventually(lambda: re.fullmatch(said, str(transport.explained(problem))) is not None)
        assert transport.explained(told) is told, "once is enough"
        await dial(transport)
        assert transport.explained(problem) is problem, "that was of another dial"
        pid = transport.client.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: "ended by signal 9" in str(transport.explained(problem)))
        await transport.close()

    run(main())


def test_it_gets_the_environment_that_it_needs_and_no_more(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHANTOMBAND_SECRET", "x")
    monkeypatch.setenv("TOR_PT_PROXY", "http://192.0.2.1:1")

    async def main() -> None:
        body = 'open(os.path.join(state, "environment"), "w").write(json.dumps(dict(os.environ)))\nup(); wait()'
        transport = fake(tmp_path, CLIENT + body)
        await dial(transport)
        folder = tmp_path / "state" / "fake-client"
        found = json.loads((folder / "environment").read_text())
        found.pop("LC_CTYPE", None)  # Python's own
        assert folder.stat().st_mode & 0o777 == 0o700
        assert set(found) - set(program.PASSED_ON) == {
            "HOME", "TOR_PT_MANAGED_TRANSPORT_VER", "TOR_PT_STATE_LOCATION", "TOR_PT_EXIT_ON_STDIN_CLOSE",
            "TOR_PT_CLIENT_TRANSPORTS",
        }  # fmt: skip
        assert found["TOR_PT_STATE_LOCATION"] == str(folder)
        await transport.close()

    run(main())


def test_a_program_that_says_nothing_of_the_proxy_is_not_used(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        assert "proxy" in await refused(fake(tmp_path, CLIENT + "up(); wait()", "http://192.0.2.1:8080"))
        (other := tmp_path / "other").mkdir()
        transport = fake(other, CLIENT + 'say("PROXY DONE"); up(); wait()', "http://192.0.2.1:8080")
        await dial(transport)
        await transport.close()

    run(main())


def test_a_client_program_that_was_killed_is_started_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "FIRST_PAUSE", 0.2)

    async def main() -> None:
        transport = fake(tmp_path, CLIENT + "up(); wait()")
        end = await dial(transport)
        first = transport.client.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await end.until(lambda: end.over)
        await eventually(lambda: transport.client.pid is None)
        with pytest.raises(ProgramFailed, match="started again in"):
            await dial(transport)
        while transport.client.pid is None:
            try:
                end = await dial(transport)
            except Refused:
                await asyncio.sleep(0.02)
        assert transport.client.pid != first
        await transport.close()

    run(main())


def test_pauses_grow_and_begin_anew() -> None:
    pauses = Pauses()
    assert [pauses.after(1.0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pauses.after(3600.0) == 1


OUTLIVED = """
import asyncio, sys
from pathlib import Path
from phantomband.core.errors import Refused
from phantomband.transports.base import Address
from phantomband.transports.managed.program import Command
from phantomband.transports.managed.transport import Programs
async def main():
    command = Command.of(("fake",), sys.executable, ("-I", "-S", sys.argv[1]))
    transport = Programs([command], Path(sys.argv[2])).of("fake")
    task = asyncio.create_task(transport.dial(Address("fake", "192.0.2.1", 1), lambda c: c, 60))
    while transport.client.pid is None:
        await asyncio.sleep(0.01)
    print(transport.client.pid, flush=True)
    await task
asyncio.run(main())
"""


def test_a_program_does_not_outlive_us_even_if_we_are_killed(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(HEAD + f"open(os.path.join(state, 'there'), 'w').close()\n{STUBBORN}")
    state = tmp_path / "state"
    with subprocess.Popen(
        [sys.executable, "-c", OUTLIVED, str(script), str(state)], stdout=subprocess.PIPE, text=True
    ) as us:
        assert us.stdout is not None
        pid = int(us.stdout.readline())
        until(lambda: (state / "fake-client" / "there").exists())
        us.kill()
        us.wait()
        until(lambda: not members(pid))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# ---- what is configured ----------------------------------------------------------------------------------------------


def test_lines_as_tor_has_them() -> None:
    assert split_plugin('a,b exec /bin/x -log "two words"') == (("a", "b"), "/bin/x", ("-log", "two words"))
    for bad in ("", "a", "a exec", "a /bin/x", "a socks5 127.0.0.1:1", 'a exec "'):
        with pytest.raises(UserError, match="NAME"):
            split_plugin(bad)


def test_programs_must_be_there_and_names_must_be_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        Command.of(("x",), str(tmp_path / "none"))
    for name in ("", "A", "a-b", "_x", "x" * 17):
        with pytest.raises(UserError, match="a name has"):
            Command.of((name,), sys.executable)
    with pytest.raises(UserError, match="without transports"):
        Command.of((), sys.executable)
    one = Command.of(("x",), sys.executable)
    with pytest.raises(UserError, match="two programs"):
        Programs([one, one], tmp_path)
    assert Programs([one], tmp_path).of("y") is None
    assert shutil.which(one.words[0]) == one.words[0]
