"""The sections of `perf/gpu.py`, and the arithmetic that they share."""
