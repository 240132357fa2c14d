"""Numba kernels: arrays in, arrays out. Nothing below this folder imports torch; the derivation is in README.md."""
