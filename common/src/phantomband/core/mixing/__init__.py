"""Mixing strategies: sans-io machines run by the mixer service and the simulator alike."""
