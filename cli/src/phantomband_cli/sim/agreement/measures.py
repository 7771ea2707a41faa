"""What a run of the agreement gives: epochs that were certified, how soon, and whether any forked."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from phantomband.core.netdir.ballot import ViewSignature

from phantomband_cli.sim.dht.measures import percentile, wilson


@dataclass(slots=True)
class Measures:
    """Epochs by their number. Times are seconds after the epoch's cut-off."""

    quorum: int
    epochs: int = 0
    certified: dict[int, dict[int, float]] = field(default_factory=dict)
    """Epoch -> honest directory -> when it had the certified view."""
    digests: dict[int, set[bytes]] = field(default_factory=dict)
    """Epoch -> certified digests that honest directories held."""
    signers: dict[int, dict[bytes, set[int]]] = field(default_factory=dict)
    """Epoch -> digest -> whose signatures over it were ever sent, to anyone."""
    accused: set[int] = field(default_factory=set)
    """Directories of whose lies there is evidence."""
    kills: int = 0

    def signed(self, data: bytes) -> None:
        """A signature was sent."""
        share = ViewSignature.decode_untrusted(data)
        of_epoch = self.signers.setdefault(share.epoch, defaultdict(set))
        of_epoch[share.view].add(share.directory)

    def has(self, directory: int, epoch: int, digest: bytes, seconds: float) -> None:
        """An honest directory holds a certified view."""
        self.digests.setdefault(epoch, set()).add(digest)
        self.certified.setdefault(epoch, {}).setdefault(directory, seconds)

    @property
    def forks(self) -> int:
        """Epochs with two digests that a quorum signed, or that honest directories hold."""
        signed = {
            epoch
            for epoch, digests in self.signers.items()
            if sum(len(who) >= self.quorum for who in digests.values()) > 1
        }
        return len(signed | {epoch for epoch, digests in self.digests.items() if len(digests) > 1})

    @property
    def first(self) -> list[float]:
        """Of each certified epoch: when the first honest directory had the view."""
        return [min(times.values()) for times in self.certified.values()]

    @property
    def last(self) -> list[float]:
        """... and when the last of those had it that did."""
        return [max(times.values()) for times in self.certified.values()]


def together(runs: list[Measures], honest: int) -> dict[str, float]:
    """All epochs of all runs."""
    epochs, certified = sum(run.epochs for run in runs), sum(len(run.certified) for run in runs)
    low, high = wilson(certified, epochs)
    first = [one for run in runs for one in run.first]
    last = [one for run in runs for one in run.last]
    holders = sum(len(times) for run in runs for times in run.certified.values())
    return {
        "epochs": epochs,
        "certified": certified / max(1, epochs),
        "certified_low": low,
        "certified_high": high,
        "forks": sum(run.forks for run in runs),
        "seconds_first_p50": percentile(first, 0.5),
        "seconds_first_p95": percentile(first, 0.95),
        "seconds_last_p50": percentile(last, 0.5),
        "seconds_last_p95": percentile(last, 0.95),
        "holders": holders / max(1, certified) / max(1, honest),
        "kills": sum(run.kills for run in runs),
    }
