"""What is killed beside a service is not a fault of that service: no bug is counted, no traceback written."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from phantomband.runtime import service
from phantomband.runtime.contained import Contained
from phantomband.runtime.contained_edges import handler


class Servicer:
    def __init__(self) -> None:
        self.contained = Contained()

    @handler
    async def Ask(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "cannot be reached")


class Gone:
    """A call whose client was killed before its answer."""

    async def abort(self, code: grpc.StatusCode, text: str) -> None:
        raise grpc.aio.InternalError("Failed execute_batch")


def test_an_answer_to_a_killed_asker_is_no_bug() -> None:
    servicer = Servicer()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(servicer.Ask(None, Gone()))
    assert servicer.contained.bugs == 0


def test_a_service_whose_part_was_killed_says_so_in_a_line_and_may_be_started_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "tune_allocator", lambda: None)
    monkeypatch.setattr(service, "raise_file_limit", lambda: None)

    async def lost() -> None:
        raise service.PartLost("the worker died")

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lost())

    with pytest.raises((SystemExit, BaseExceptionGroup)) as ended:
        service.run_main(main())
    found = ended.value
    while isinstance(found, BaseExceptionGroup):
        (found,) = found.exceptions
    assert isinstance(found, SystemExit)
    assert found.code == 1
    assert capsys.readouterr().err == "error: the worker died: ends, to be started again\n"
