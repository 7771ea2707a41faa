"""The gateway's settings: where it listens, how many links it takes, how it pads them."""

from __future__ import annotations

import re
from typing import Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from phantomband.core.shaping import LADDER, MAX_RATE, OFF, Mode, Policy, Schedule, Shape
from phantomband.runtime.settings.base import PluggableProgram, Section

PaddingName = Literal["off", "adaptive", "constant"]
PADDING_NAMES: tuple[str, ...] = get_args(PaddingName)
"""Every way to pad links."""

DEFAULT_RATES = {"adaptive": MAX_RATE, "constant": 128}
"""Cells a second where `padding_rate` is 0."""

_PARAMETER = re.compile(r"(?<=[?&])[a-z0-9_-]+(?==)")
"""The name of a parameter in an address."""


class GatewaySection(Section):
    listen: tuple[str, ...] = ("tcp://0.0.0.0:9001",)
    """Where to listen: transport://host:port for tcp, tls, quic, websocket, obfs4, doh; obfs4 with ?iat-mode=0, 1 or 2
    behind it; tls, quic and websocket with ?site=FOLDER and others (docs/how-to/run-a-bridge-behind-nginx.md); doh
    with ?upstream=IP, zone=NAME, dns=IP:53, ns=NAME, path=/PATH, or certificate=FILE, key=FILE and sni=NAME
    (docs/how-to/reach-a-bridge-by-dns.md)."""
    advertise: tuple[str, ...] = ()
    """What the descriptor says instead, entry by entry, when others reach us elsewhere (NAT, containers, a reverse
    proxy). Parameters behind an entry take the place of the transport's own of the same name."""
    pluggable: tuple[PluggableProgram, ...] = ()
    """Programs that listen for transports: {transports = ["webtunnel"], program = "/usr/bin/lyrebird", arguments = []}.
    Their addresses stand in listen; one for a transport that is built in takes its place."""
    max_links: int = Field(default=4096, ge=1)
    """Incoming links at once, or fewer where memory is short: one for each 128 KiB of a quarter of it. For one more the
    network (/24 or /48) with most of them gives one up, if it has more than the newcomer's; else the newcomer is closed
    unanswered."""
    max_pending: int = Field(default=256, ge=1)
    """Connections without a finished handshake at once; for one more the oldest silent one of the network with most of
    them is closed."""
    padding: PaddingName = "off"
    """How links are paced and padded: off; adaptive, slots at a rate that follows the load on a ladder, while a link
    carries circuits; constant, slots at one rate always. All links are at least so, and nodes that we dial are asked
    for the same. What each hides and costs: docs/explanation/padding.md."""
    padding_rate: int = Field(default=0, ge=0, le=MAX_RATE)
    """Cells a second of each link and direction; constant: the rate; adaptive: the highest, one of 8, 32, 128, 512,
    2048, 8192, 32768. 0: 128 for constant, which is 23 GB a day, and 32768 for adaptive."""
    padding_schedule: Literal["fixed", "poisson"] = "fixed"
    """Slots at equal distances, or at exponential ones of the same mean."""
    padding_max_rate: int = Field(default=512, ge=0, le=MAX_RATE)
    """Cells a second at which a dialer, such as a client, may ask us to pad its link; more only in the mode of padding,
    up to padding_rate. 0: links are padded as padding says, whatever is asked."""
    padding_total: int = Field(default=8192, ge=0)
    """... of all dialers together: 16.8 MB/s, enough for 200 clients of the profile strong. A network (/24 or /48) has
    at most a quarter, and the last quarter is for links of at most 64 cells a second. An adaptive link counts for a
    sixteenth of its highest rate. What there is no room for is padded as padding says."""

    @field_validator("listen", "advertise")
    @classmethod
    def _without_hyphens(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Names of parameters have none in addresses; obfs4's `iat-mode` is written with one everywhere else."""
        return tuple(_PARAMETER.sub(lambda m: m[0].replace("-", "_"), a) for a in value)

    @field_validator("padding_rate")
    @classmethod
    def _of_the_ladder(cls, value: int, others: ValidationInfo) -> int:
        if value and others.data.get("padding") == "adaptive" and value not in LADDER:
            raise ValueError(f"must be one of {', '.join(map(str, LADDER))}, or 0, when padding is adaptive")
        return value

    @property
    def shape(self) -> Shape:
        """What links are padded as, and the descriptor says."""
        if self.padding == "off":
            return OFF
        rate = self.padding_rate or DEFAULT_RATES[self.padding]
        return Shape(Mode[self.padding.upper()], Schedule[self.padding_schedule.upper()], rate)

    @property
    def pacing(self) -> Policy:
        """The gateway's part of it."""
        return Policy(self.shape, self.padding_max_rate)
