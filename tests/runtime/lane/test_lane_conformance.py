"""What every lane driver must do, on both event loops."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from lane_rig import Run, pair
from phantomband.core.errors import Bug
from phantomband.runtime.lane.base import HIGH_WATER, MAX_FRAME_BYTES, Driver, LanePeer


def test_frames_arrive_whole_in_order_at_all_sizes(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        dice = random.Random(1)
        sizes = [0, 1, 2, 122, 123, 126, 127, 128, 16382, 16383, 16384, MAX_FRAME_BYTES - 1, MAX_FRAME_BYTES]
        sent = [(i, dice.randbytes(size)) for i, size in enumerate(sizes)]
        async with pair(folder, driver) as (sender, service):
            for kind, payload in sent:
                cut = dice.randint(0, len(payload))
                assert sender.lane.send(kind, [payload[:cut], memoryview(payload)[cut:]])
            (taker,) = service.takers
            await taker.until(lambda: len(taker.frames) == len(sent))
            assert taker.frames == sent
            assert taker.peer == LanePeer("gateway", 7)

    run(main())


def test_many_small_and_large_frames_in_a_burst(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        dice = random.Random(2)
        sent = [dice.randbytes(dice.choice([1, 10, 2048, 5000])) for _ in range(10_000)]
        async with pair(folder, driver) as (sender, service):
            for i, payload in enumerate(sent):
                assert sender.lane.send(i % 256, [payload])
            (taker,) = service.takers
            await taker.until(lambda: len(taker.frames) == len(sent))
            assert [payload for _, payload in taker.frames] == sent
            assert sender.lane.buffered == 0 or driver is Driver.GRPC

    run(main())


def test_frames_of_any_size_one_turn_after_another(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        dice = random.Random(3)
        sent = [dice.randbytes(int(2 ** dice.uniform(0, 19.9))) for _ in range(60)]
        async with pair(folder, driver) as (sender, service):
            for i, payload in enumerate(sent):
                assert sender.lane.send(i, [payload])
                await asyncio.sleep(0)
            (taker,) = service.takers
            await taker.until(lambda: len(taker.frames) == len(sent))
            assert taker.frames == list(enumerate(sent))

    run(main())


def test_a_frame_over_the_limit_is_refused(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        async with pair(folder, driver) as (sender, service):
            with pytest.raises(Bug):
                sender.lane.send(1, [bytes(MAX_FRAME_BYTES), b"x"])
            assert sender.lane.send(2, [b"still up"])
            (taker,) = service.takers
            await taker.until(lambda: bool(taker.frames))
            assert taker.frames == [(2, b"still up")]

    run(main())


def test_congestion_is_told_and_ends(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        async with pair(folder, driver) as (sender, service):
            count = 0
            while sender.lane.buffered <= HIGH_WATER:
                sender.lane.send(0, [bytes(256 * 1024)])
                count += 1
            assert sender.told == [1]
            await sender.until(1, "writable")
            assert sender.lane.buffered < HIGH_WATER // 4
            (taker,) = service.takers
            await taker.until(lambda: len(taker.frames) == count)
            assert sender.told == [1, "writable"]

    run(main())
