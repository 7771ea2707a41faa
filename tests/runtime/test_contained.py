"""An unexpected error of one peer's task ends what that peer has, and nothing else."""

import asyncio
import itertools

import pytest
import structlog
from phantomband.core.errors import Bug, Forged, Malformed, Refused, UserError
from phantomband.runtime.contained import LOGGED_BUGS, Contained
from virtual import run_virtual

EVERY = [Malformed("m"), Forged("f"), Refused("r"), Bug("b"), UserError("u"), ValueError("v"), KeyError(1), OSError(5)]


async def _raise(error: BaseException) -> None:
    await asyncio.sleep(1)
    raise error


@pytest.mark.parametrize("error", EVERY, ids=lambda e: type(e).__name__)
def test_an_error_of_a_task_breaks_its_own_thing_and_no_other_task(error: Exception) -> None:
    async def main() -> None:
        contained, broken, went_on = Contained(), [], asyncio.Event()

        async def other() -> None:
            await asyncio.sleep(5)
            went_on.set()

        async with asyncio.TaskGroup() as tasks:
            contained.start(tasks)
            contained.spawn(_raise(error), lambda: broken.append(1))
            contained.spawn(other(), lambda: broken.append(2))
        assert (broken, went_on.is_set(), contained.bugs) == ([1], True, 1)

    run_virtual(main())


def test_cancellation_is_no_bug() -> None:
    async def main() -> None:
        contained = Contained()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), asyncio.TaskGroup() as tasks:
                contained.start(tasks)
                contained.spawn(asyncio.sleep(3600))
        assert contained.bugs == 0

    run_virtual(main())


def test_what_is_broken_may_fail_too() -> None:
    async def main() -> None:
        contained = Contained()
        async with asyncio.TaskGroup() as tasks:
            contained.start(tasks)
            contained.spawn(_raise(ValueError()), lambda: {}["missing"])
        contained.call(lambda: {}["missing"], lambda: {}["missing"])
        assert contained.bugs == 4

    run_virtual(main())


def test_a_loop_begins_again_after_longer_and_longer_pauses() -> None:
    async def main() -> None:
        contained, begun = Contained(), []
        loop = asyncio.get_running_loop()

        async def work() -> None:
            begun.append(loop.time())
            if len(begun) < 4:
                raise KeyError

        await contained.keep(work)
        pauses = [b - a for a, b in itertools.pairwise(begun)]
        assert pauses == pytest.approx([1, 2, 4])
        assert contained.bugs == 3

    run_virtual(main())


def test_a_persons_mistake_ends_a_loop() -> None:
    async def main() -> None:
        contained = Contained()
        with pytest.raises(UserError):
            await contained.keep(lambda: _raise(UserError("the disk is gone")))

    run_virtual(main())


def test_work_for_a_service_that_does_not_run_is_broken_off() -> None:
    broken: list[int] = []
    Contained().spawn(asyncio.sleep(1), lambda: broken.append(1))
    assert broken == [1]


def test_the_log_has_type_and_place_but_not_the_words_and_has_an_end() -> None:
    with structlog.testing.capture_logs() as lines:
        contained = Contained()
        for _ in range(LOGGED_BUGS + 10):
            contained.call(lambda: (_ for _ in ()).throw(ValueError("198.51.100.7 secret")))
    assert len(lines) == LOGGED_BUGS
    assert contained.bugs == LOGGED_BUGS + 10
    assert "198.51.100.7" not in repr(lines)
    assert "secret" not in repr(lines)
    assert lines[0]["type"] == "ValueError"
    assert lines[0]["place"].startswith("test_contained.py:")
