"""The pure core: sans-io machines. No clock, no randomness, no await, no socket inside."""
