"""An error in the mixer, whatever it is, costs the cells that met it: lanes and other links' cells live on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mixer_rig import Rig
from phantomband.core.errors import Bug, Malformed, Refused, UserError
from phantomband.runtime.settings import MixerSection
from virtual import run_virtual

ERRORS = (Malformed, Refused, UserError, Bug, KeyError, ValueError, OSError, RecursionError)


def failing(error: type[Exception]) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise error("from a peer")

    return fail


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("what", ["intake", "frame", "down", "junk"])
def test_errors_in_callbacks_of_the_lane(tmp_path: Path, error: type[Exception], what: str) -> None:
    async def main() -> None:
        rig = Rig(tmp_path, MixerSection(strategy="timed", interval=0.1))
        service: Any = rig.service
        match what:
            case "intake":
                add = service._intake.add
                service._intake.add = lambda link, *rest: failing(error)() if link == 1 else add(link, *rest)
                rig.send(1, 1, 1)
            case "frame":
                frame, service.frame = service.frame, failing(error)
                rig.send(1, 1, 1)
                service.frame = frame
            case "down":
                service.relay_down = failing(error)
                rig.receiver.down()
            case "junk":
                rig.receiver.frame(1, memoryview(b"\0\7"))
        rig.send(2, 1, 1)
        await asyncio.sleep(1)
        assert [link for link, _ in rig.lane.cells] == [2]
        assert service.status()["bugs"] == 1

    run_virtual(main())


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_a_release_does_not_end_the_releases(tmp_path: Path, error: type[Exception]) -> None:
    async def main() -> None:
        rig = Rig(tmp_path, MixerSection(strategy="timed", interval=0.1))
        service: Any = rig.service
        release, service._release = service._release, lambda **_: None
        rig.send(1, 1, 1)
        service._release = failing(error)
        await asyncio.sleep(0.3)
        service._release = release
        await asyncio.sleep(0.3)
        assert [link for link, _ in rig.lane.cells] == [1]
        assert service.status()["bugs"] > 0

    run_virtual(main())
