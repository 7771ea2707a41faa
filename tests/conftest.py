"""For all tests, before any of them is imported.

gRPC must not do anything when a test starts a process; and drawn examples are the same in each run, unless
`HYPOTHESIS_PROFILE=explore` asks for others.
"""

import os

from hypothesis import settings

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

settings.register_profile("same", derandomize=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
