"""Standard input, output and error of a process that was started without some of them."""

from __future__ import annotations

import os


def open_standard_files() -> None:
    """Those that are closed go nowhere from now on.

    Else the next file or socket that is opened gets their number, and whoever writes to standard error (gRPC's core
    does) writes into it. To be called before anything is opened.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
