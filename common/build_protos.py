"""Generates `phantomband.proto` from protos/ at build time; the generated code is never committed.

Used as hatchling's build hook and, by `make`, as a script.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROTOS = HERE.parent / "protos"
TARGET = HERE / "src" / "phantomband" / "proto"


def generate() -> None:
    """Writes *_pb2.py, *_pb2.pyi and *_pb2_grpc.py for each file in protos/."""
    import grpc_tools
    from grpc_tools import protoc

    TARGET.mkdir(exist_ok=True)
    (TARGET / "__init__.py").write_text('"""Generated from protos/ at build; do not edit."""\n')
    include = Path(grpc_tools.__file__).parent / "_proto"
    sources = sorted(str(p) for p in PROTOS.glob("phantomband/proto/*.proto"))
    out = TARGET.parent.parent
    arguments = [f"-I{PROTOS}", f"-I{include}", f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(["protoc", *arguments, *sources]) != 0:
        sys.exit("protoc failed: see its message above")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script
    pass
else:

    class ProtoBuildHook(BuildHookInterface):  # type: ignore[type-arg]
        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            if PROTOS.is_dir():
                generate()


if __name__ == "__main__":
    generate()
