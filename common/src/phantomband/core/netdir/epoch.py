"""The epoch clock: when each epoch begins and ends, from the genesis file alone. PROTOCOL.md section 7,
point 2.

Epochs are numbered from 1 (0 stands for "none yet"). The first `startup_epochs` last `startup_seconds`
each, so that a new network has its first view within seconds; all later ones last `epoch_seconds`. Times
are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from phantomband.core.errors import UserError

NO_EPOCH = 0
"""Where an epoch is asked for and there is none."""

MAX_SECONDS = 7 * 86400
"""Longest epoch: a week."""

MAX_STARTUP_EPOCHS = 100_000

LEAST_CLOSING_SECONDS = 1.0

VALID_EPOCHS = 3
"""A view is in force this many regular epochs after it took effect."""

STALE_EPOCHS = 24
"""... and is used, with a warning, for this many, when no newer one was certified."""


@dataclass(frozen=True, slots=True)
class EpochClock:
    """Schedule of a network: all of it in whole seconds."""

    start_time: int
    startup_epochs: int
    startup_seconds: int
    epoch_seconds: int

    def __post_init__(self) -> None:
        if not 0 <= self.start_time < 2**40:
            raise UserError("epochs.start must be Unix seconds.")
        if not 0 <= self.startup_epochs <= MAX_STARTUP_EPOCHS:
            raise UserError(f"epochs.startup_epochs must be 0 to {MAX_STARTUP_EPOCHS}.")
        for name, value in (("startup_seconds", self.startup_seconds), ("epoch_seconds", self.epoch_seconds)):
            if not 1 <= value <= MAX_SECONDS:
                raise UserError(f"epochs.{name} must be 1 to {MAX_SECONDS} seconds.")

    @property
    def regular_start(self) -> int:
        """When the startup phase ends."""
        return self.start_time + self.startup_epochs * self.startup_seconds

    def epoch_at(self, now: float) -> int:
        """The epoch that `now` lies in; 0 before the network's start."""
        if now < self.start_time:
            return NO_EPOCH
        if now < self.regular_start:
            return 1 + int(now - self.start_time) // self.startup_seconds
        return 1 + self.startup_epochs + int(now - self.regular_start) // self.epoch_seconds

    def start(self, epoch: int) -> int:
        """When `epoch` (from 1) begins."""
        before = epoch - 1
        if before <= self.startup_epochs:
            return self.start_time + before * self.startup_seconds
        return self.regular_start + (before - self.startup_epochs) * self.epoch_seconds

    def end(self, epoch: int) -> int:
        """When `epoch` ends and its view takes effect."""
        return self.start(epoch + 1)

    def length(self, epoch: int) -> int:
        return self.end(epoch) - self.start(epoch)

    def closing(self, epoch: int) -> float:
        """Seconds from the cut-off to the end: a quarter, but a second if that is not over half. Three messages a
        directory need their time on a busy machine, however short a test network's epochs are."""
        length = self.length(epoch)
        return max(length / 4, min(length / 2, LEAST_CLOSING_SECONDS))

    def cutoff(self, epoch: int) -> float:
        """Upload cut-off, T - E/4: descriptors that come later wait for the next epoch; votes go out."""
        return self.end(epoch) - self.closing(epoch)

    def echo_deadline(self, epoch: int) -> float:
        """Echoes go out here at the latest: a third of the way from the cut-off to the end."""
        return self.cutoff(epoch) + self.closing(epoch) / 3

    def sign_deadline(self, epoch: int) -> float:
        """Votes are counted here at the latest: two thirds of that way."""
        return self.cutoff(epoch) + 2 * self.closing(epoch) / 3

    def fresh_until(self, epoch: int) -> int:
        """When the next view should have replaced this epoch's."""
        return self.end(epoch + 1)

    def valid_until(self, epoch: int) -> int:
        """The end of validity: counted in regular epochs, for startup epochs too."""
        return self.end(epoch) + VALID_EPOCHS * self.epoch_seconds

    def stale_until(self, epoch: int) -> int:
        """After this the view of `epoch` is no longer used at all."""
        return self.end(epoch) + STALE_EPOCHS * self.epoch_seconds
