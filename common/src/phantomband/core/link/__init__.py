"""A link between gateways, or client and gateway: handshake and records, sans-io (PROTOCOL.md section 5).

`machine` has the link itself, `records` the AEAD records that carry cells once it stands.
"""

from phantomband.core.link.machine import (
    Cells,
    Established,
    Event,
    Link,
    LinkKey,
    Send,
    dial,
    listen,
)
from phantomband.core.link.records import MAX_RECORD_CELLS, sealed_bytes

__all__ = [
    "MAX_RECORD_CELLS",
    "Cells",
    "Established",
    "Event",
    "Link",
    "LinkKey",
    "Send",
    "dial",
    "listen",
    "sealed_bytes",
]
