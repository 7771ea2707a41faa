"""This node's stamp (core/work/stamp.py): made anew before the view that it was made for no longer counts.

The solver is a program of its own, since it takes hundreds of megabytes and a processor for seconds to minutes, and
needs numpy, which no service does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Protocol

from phantomband.core.errors import Malformed, Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.epoch import NO_EPOCH
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.view import NO_DIGEST
from phantomband.core.work import stamp as stamps
from phantomband.core.work.equihash import Parameters
from phantomband.core.work.stamp import Challenge

RENEW_EPOCHS = 12
"""A stamp counts for the newest 24 views (core/netdir/admission.py); it is made anew at half of that."""

RETRY_SECONDS = 10.0
"""After the solver found nothing, or could not run."""

MAX_OUTPUT_BYTES = 4096


class Solver(Protocol):
    """Makes stamps."""

    async def solve(self, challenge: Challenge, parameters: Parameters, bits: int) -> bytes:
        """Returns: a stamp for `challenge` of at least `bits`.

        Raises:
            Refused: none was found, or the solver cannot run.
        """


class SolverProcess:
    """Runs the solver: `command NETWORK NODE EPOCH DIGEST --bits B --parameters N,K`, which prints JSON."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)

    async def solve(self, challenge: Challenge, parameters: Parameters, bits: int) -> bytes:
        arguments = (
            challenge.network_id.hex(),
            str(challenge.node_id),
            str(challenge.epoch),
            challenge.view_digest.hex(),
            "--bits",
            str(bits),
            "--parameters",
            f"{parameters.n},{parameters.k}",
        )
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(*self._command, *arguments, stdout=pipe, stderr=pipe)
        except OSError as e:
            raise Refused(f"the solver of stamps cannot run: {e.strerror}") from e
        try:
            out, problem = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            raise
        if process.returncode:
            raise Refused(f"the solver of stamps failed: {problem[:200].decode(errors='replace').strip()}")
        try:
            stamp = bytes.fromhex(json.loads(out[:MAX_OUTPUT_BYTES])["stamp"])
            stamps.verify_untrusted(challenge, stamp, parameters, bits)
        except (ValueError, KeyError, TypeError, Malformed) as e:
            raise Refused(f"the solver of stamps gave none: {e}") from e
        return stamp


class Stamps:
    """Keeps the stamp of one node current.

    Args:
        solver: None where the network asks for no work.
        changed: called when there is a new stamp.
    """

    def __init__(self, genesis: Genesis, node_id: NodeId, solver: Solver | None, changed: Callable[[], None]) -> None:
        self._network_id, self._terms = genesis.network_id, genesis.terms
        self._node_id, self._solver, self._changed = node_id, solver, changed
        self._newest = (NO_EPOCH, NO_DIGEST, genesis.terms.difficulty.floor)
        self._made_for: int | None = None
        self._wake = asyncio.Event()
        self.current = b""
        self.trouble = ""
        """Why there is none."""

    @property
    def ready(self) -> bool:
        """Whether there is one, or none is asked for."""
        return self._terms.work is None or bool(self.current)

    def view_changed(self, certified: CertifiedView) -> None:
        """Stamps are made for the newest view."""
        self._newest = (certified.view.epoch, certified.digest, certified.view.bits)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        if self._terms.work is None:
            return
        while True:
            if not self._due():
                self._wake.clear()
                await self._wake.wait()
                continue
            epoch, digest, bits = self._newest
            challenge = Challenge(self._network_id, self._node_id, epoch, digest)
            try:
                self.current = await self._solve(challenge, self._terms.work, bits)
            except Refused as e:
                self.trouble = str(e)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._made_for, self.trouble = epoch, ""
            self._changed()

    def _due(self) -> bool:
        return self._made_for is None or self._newest[0] - self._made_for >= RENEW_EPOCHS

    async def _solve(self, challenge: Challenge, parameters: Parameters, bits: int) -> bytes:
        if self._solver is None:
            raise Refused("this network asks for work, and no solver of stamps is set up")
        return await self._solver.solve(challenge, parameters, bits)
