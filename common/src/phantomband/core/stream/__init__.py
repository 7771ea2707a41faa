"""Streams: messages, credit, congestion control."""
