"""The kernels for a CPU, one utterance at a time; kernels/cuda mirrors these files name for name."""
