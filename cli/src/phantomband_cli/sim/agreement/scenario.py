"""What is simulated: how many directories vote, who lies and how, what the network loses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Lie(Enum):
    """What a malicious directory of the set does."""

    SILENT = "silent"
    """Nothing."""
    TWINS = "twins"
    """Runs twice with one key, each of the two for one half of the others: lies of every kind at once."""
    VOTE = "vote"
    """Sends each half another vote."""
    ECHO = "echo"
    """Tells each half of other votes."""
    SIGNATURE = "signature"
    """Signs another digest for one half."""
    LATE = "late"
    """Votes in time for one half, and after the echoes for the other."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world. Times in seconds; the same scenario and seed give the same figures."""

    directories: int = 7
    liars: tuple[Lie, ...] = ()
    """The last ones of the set."""
    killed: float = 0.0
    """Of the honest directories' signatures: the part before whose sending its directory is killed."""
    restart: float = 30.0
    """After which it is there again, with what it remembered."""
    loss: float = 0.0
    """Part of all messages that do not arrive."""
    split: float = 0.0
    """Part of the epochs in which two halves do not hear each other from the cut-off to the echoes."""
    epochs: int = 10
    epoch_seconds: int = 3600
    relays: int = 8
    """Nodes at the beginning; one more in each epoch, told to half of the directories at the last moment."""
    seed: int = 1
