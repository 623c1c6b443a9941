"""qdec: a real-time decoder service for quantum error correction.

The package is laid out as the way of a syndrome::

    codes     what a code is: a Stim circuit or DEM as rounds of detectors
    windows   rounds assembled into sliding windows, seams carried between them
    match     the decoders that answer a window
    bus       what travels over sockets
    lane      the process that owns streams from socket to answer
    supervisor  the process that keeps lanes alive
    client    the other end of the socket
    doctor    what the machine has for all this

No module imports from a later stage: codes and windows know nothing of sockets.
"""

__version__ = "0.1.0"
