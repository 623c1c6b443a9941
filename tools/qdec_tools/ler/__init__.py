"""``qdec ler``: logical error rate and time per round of tiers, on the same shots.

::

    points   what is measured: distance, rounds, noise, basis; the circuit of each
    work     one block of shots sampled and decoded by every tier (in a worker process)
    blocks   what is finished, in a file that a later run continues
    collect  which blocks are still wanted; the processes that make them
    result   rows, the paired comparison, the table
    plot     curves
"""
