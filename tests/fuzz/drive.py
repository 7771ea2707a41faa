"""Runs one fuzz target under atheris, with the product's code instrumented: `drive.py NAME [libFuzzer's options]`.

For `make fuzz` (run.py), which reads what libFuzzer says. The target is imported here, so that its own imports of the
product are instrumented; the targets themselves know nothing of atheris.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = [
    "phantomband", "phantomband_cli", "phantomband_client", "phantomband_directory", "phantomband_gateway",
    "phantomband_mixer", "phantomband_relay",
]  # fmt: skip


def main() -> None:
    import atheris

    sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=PACKAGES):
        target = importlib.import_module(f"fuzz_{name}")
    atheris.Setup([sys.argv[0], *options], target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
