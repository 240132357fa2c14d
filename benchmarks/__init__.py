"""Benchmarks of numbactc: speed, accuracy, memory and start-up next to its peers. See `benchmarks/README.md`."""
