"""Every certified view that the directories of a test network hold, as it comes; and whether they ever disagree."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from phantomband.core.netdir.certified import CertifiedView
from phantomband.proto import directory_pb2, directory_pb2_grpc

OPTIONS = (("grpc.max_receive_message_length", 8 * 1024 * 1024),)
RETRY_SECONDS = 0.1


class ViewWatch:
    """Follows each node's directory in a thread of its own."""

    def __init__(self, run_dir: Path, nodes: Sequence[str]) -> None:
        self.nodes = tuple(nodes)
        self.views: dict[str, dict[int, CertifiedView]] = {node: {} for node in nodes}
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._follow, args=(run_dir, node), daemon=True) for node in nodes]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()

    def newest(self, node: str) -> int:
        """Epoch of the newest view of a node; 0 for none."""
        with self._news:
            return max(self.views[node], default=0)

    def members(self, node: str) -> set[str]:
        """Nicknames in the newest view of a node."""
        with self._news:
            return {entry.nickname for entry in self.views[node][max(self.views[node])].view.entries}

    def wait_epochs(self, count: int, nodes: Collection[str], seconds: float) -> int:
        """Until all of `nodes` have a view that is `count` epochs newer than any has now. Returns: its epoch."""
        wanted = max(self.newest(node) for node in self.nodes) + count
        end = time.monotonic() + seconds
        with self._news:
            while not all(max(self.views[node], default=0) >= wanted for node in nodes):
                if not self._news.wait(end - time.monotonic()):
                    have = {node: max(self.views[node], default=0) for node in self.nodes}
                    pytest.fail(f"no view of epoch {wanted} on all within {seconds:g} s: {have}")
        return wanted

    def digests(self) -> dict[int, set[bytes]]:
        """All digests seen of each epoch: more than one is a fork."""
        found: dict[int, set[bytes]] = defaultdict(set)
        with self._news:
            for views in self.views.values():
                for epoch, view in views.items():
                    found[epoch].add(view.digest)
        return found

    def _follow(self, run_dir: Path, node: str) -> None:
        target = f"unix:{run_dir / node / 'directory.sock'}"
        while not self._stop.is_set():
            with grpc.insecure_channel(target, options=OPTIONS) as channel:
                stub = directory_pb2_grpc.DirectoryStub(channel)
                try:
                    for message in stub.WatchView(directory_pb2.WatchViewRequest()):
                        self._take(node, CertifiedView.decode_untrusted(bytes(message.view)))
                        if self._stop.is_set():
                            return
                except grpc.RpcError:
                    self._stop.wait(RETRY_SECONDS)

    def _take(self, node: str, view: CertifiedView) -> None:
        with self._news:
            self.views[node][view.view.epoch] = view
            self._news.notify_all()


@contextmanager
def watching(run_dir: Path, nodes: Sequence[str]) -> Iterator[ViewWatch]:
    """Follows these nodes; at the end there must never have been a fork."""
    watch = ViewWatch(run_dir, nodes)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
    forks = {epoch: len(digests) for epoch, digests in watch.digests().items() if len(digests) > 1}
    assert not forks, f"views forked: {forks}"
