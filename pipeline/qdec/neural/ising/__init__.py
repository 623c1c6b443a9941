"""NVIDIA Ising Decoding's conventions: its grid, tensors, networks and published weights."""
