"""The kernels for an NVIDIA GPU; files of the same name in kernels/cpu do the same for a CPU. See README.md here."""
