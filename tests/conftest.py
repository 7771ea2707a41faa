"""For all tests, before any of them is imported: gRPC must not do anything when a test starts a process."""

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
