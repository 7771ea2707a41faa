"""Handshakes, sans-io: `noise` for links, `ntor` for circuits, `replay` against repeated first messages."""
