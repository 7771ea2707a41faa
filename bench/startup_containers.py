"""From nothing to one certified view on twelve nodes in containers: what `docker compose up` takes.

Needs root, an engine that answers and images (`make images`): the directories' sockets are asked in their volumes.
Prints when the last container was started and when each node held a certified view; the last line is one JSON object,
which is written to bench/results/startup_containers.json.

Run: python bench/startup_containers.py [NODES]
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc.aio
from phantomband.core.netdir.certified import CertifiedView
from phantomband.proto import directory_pb2, directory_pb2_grpc
from phantomband_cli.compose import generate
from phantomband_cli.testnet.options import Options
from phantomband_cli.testnet.ports import free_ports

RESULTS = Path(__file__).resolve().parent / "results" / "startup_containers.json"
OPTIONS = (("grpc.max_receive_message_length", 8 * 1024 * 1024),)
SUBNET = "10.86"
POLL_SECONDS = 0.25
LIMIT_SECONDS = 300.0
DIRECTORIES = 7


def compose_command() -> list[str]:
    """Compose v2, or v1."""
    v2 = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if v2.returncode == 0:
        return ["docker", "compose"]
    return [shutil.which("docker-compose") or sys.exit("there is no docker compose")]


async def first_view(volume: Path, began: float) -> tuple[float, bytes, int]:
    """(seconds since `began`, digest, nodes) of the first view that the directory with its socket there holds."""
    while not (found := list(volume.glob("_data/**/directory.sock"))):  # noqa: ASYNC110 - of a file
        await asyncio.sleep(POLL_SECONDS)
    async with grpc.aio.insecure_channel(f"unix:{found[0]}", options=OPTIONS) as channel:
        stub = directory_pb2_grpc.DirectoryStub(channel)
        async for message in stub.WatchView(directory_pb2.WatchViewRequest(), wait_for_ready=True):
            view = CertifiedView.decode_untrusted(bytes(message.view))
            return time.monotonic() - began, view.digest, len(view.view.entries)
    raise RuntimeError("no view")


def volumes() -> Path:
    """Where the engine keeps them."""
    asked = ["docker", "info", "--format", "{{.DockerRootDir}}"]
    return Path(subprocess.run(asked, capture_output=True, check=True, text=True).stdout.strip()) / "volumes"


async def measure(
    project: str, command: list[str], environment: dict[str, str], nodes: int, below: Path
) -> dict[str, Any]:
    began = time.monotonic()
    up = await asyncio.create_subprocess_exec(
        *command, "up", "-d", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    async def started() -> float:
        await up.wait()
        return time.monotonic() - began

    async with asyncio.timeout(LIMIT_SECONDS):
        last, *views = await asyncio.gather(
            started(), *(first_view(below / f"{project}_n{i}-run", began) for i in range(1, nodes + 1))
        )
    seconds = sorted(view[0] for view in views)
    return {
        "nodes": nodes,
        "directories": min(nodes, DIRECTORIES),
        "containers_s": round(last, 1),
        "first_view_s": round(seconds[0], 1),
        "last_view_s": round(seconds[-1], 1),
        "complete": all(view[2] == nodes for view in views),
    }


def main() -> None:
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    project = f"phantomband-startup-{os.getpid()}"
    socks, http = free_ports(("tcp", "tcp"))
    environment = {**os.environ, "SOCKS_PORT": str(socks), "HTTP_PORT": str(http)}
    with tempfile.TemporaryDirectory() as folder:
        file = generate(Path(folder), Options(nodes=nodes, exits=4, directories=min(nodes, DIRECTORIES)), SUBNET)
        command = [*compose_command(), "-f", str(file), "-p", project]
        try:
            found = asyncio.run(measure(project, command, environment, nodes, volumes()))
        finally:
            subprocess.run([*command, "down", "-v"], env=environment, capture_output=True, check=False)
    for name, value in found.items():
        print(f"{name:>14} {value}")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
