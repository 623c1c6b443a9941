"""The process that owns streams from socket to answer: one thread, one loop, run to completion."""
