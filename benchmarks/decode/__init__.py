"""Decoding and alignment next to their peers: `python -m benchmarks.decode`."""
