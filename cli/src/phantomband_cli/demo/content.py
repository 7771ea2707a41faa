"""What the demo's web server serves: a page, and 64 MB whose SHA-256 is known beforehand.

The file is the AES-256-CTR key stream (NIST SP 800-38A) of the all-zero key and counter: nothing compresses
it, and anyone can make it again.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

FILE_NAME = "64MB.bin"
FILE_BYTES = 64_000_000
FILE_SHA256 = "ff516d0224b101fa92bdd4febbe42bd83b14ba94935a2798d559adac6aaf2b23"

PAGE = """<!doctype html>
<title>PhantomBand demo</title>
<h1>It works</h1>
<p>This page came to you through three relays, none of which knows both who you are and what you read.
<p><a href="/64MB.bin">64 MB that nothing compresses</a>
"""

_BLOCK = 1 << 20


def write_content(directory: Path) -> None:
    """Writes page and file into `directory`; the file only if it is not there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "index.html").write_text(PAGE)
    target = directory / FILE_NAME
    if target.exists() and target.stat().st_size == FILE_BYTES:
        return
    part = directory / f".{FILE_NAME}.{os.getpid()}"
    stream = Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))).encryptor()
    with part.open("wb") as f:
        for at in range(0, FILE_BYTES, _BLOCK):
            f.write(stream.update(bytes(min(_BLOCK, FILE_BYTES - at))))
    part.replace(target)
