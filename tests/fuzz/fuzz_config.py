"""Any file, environment and flags give a configuration or an error made for people.

Run: `make fuzz TARGETS=config`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from phantomband.core.errors import UserError
from phantomband.runtime.settings import ClientConfig, NodeConfig, load

SEEDS = [
    b'genesis = "g"\ndata_dir = "d"\n[mixer]\nstrategy = "timed"\ninterval = 0.5\n',
    b'genesis = "g"\ndata_dir = "d"\n[relay]\nexit_policy = ["accept *:80"]\n[services]\nrelay = "x:1"\n',
    b'genesis = "g"\ndata_dir = "d"\nsocks_port = 1\nhttp_port = 2\nhops = 3\n',
    b"[gateway]\n[gateway.deeper]\n[[log]]\n",
    b"mixer.interval=0.1",
    b"lane = 'grpc'\nservices = {}\ntls = 3\n",
]

FILE = Path(tempfile.gettempdir()) / "phantomband-fuzz-config.toml"


def one_input(data: bytes) -> None:
    """Takes `data` as a file, as a variable's value, and as a flag."""
    text = data.decode(errors="replace").replace("\0", "")
    key, _, value = text.partition("=")
    environment = {
        "PHANTOMBAND_" + key.strip().upper().replace(".", "__"): value,
        "PHANTOMBAND_MIXER__INTERVAL": text,
    }
    FILE.write_bytes(data)
    for kind in (NodeConfig, ClientConfig):
        for file, variables, flags in (
            (FILE, {}, []),
            (None, environment, []),
            (None, {}, ["genesis=g", "data_dir=d", text]),
        ):
            try:
                load(kind, file, variables, flags)
            except UserError:
                pass
