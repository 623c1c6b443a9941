"""Tools around the decoder: what plays the quantum computer, and what checks and measures."""
