"""What this machine has for real-time work, line by line, and the fix for what is missing.

Checks are data: `checks.GROUPS` lists them. Each looks at the machine (`machine.Machine`: files,
limits, short-lived probes in processes of their own) and hands what it saw to a pure judgement, a
function of plain values in the module of its group::

    software  what is installed, and whether it loads
    cpu       cores, clocks, idle states, the kernel
    memory    locking, huge pages, swap
    realtime  what a lane gets, measured, too
    network   loopback and limits
    gpu       driver, memory, packages, engine; one line where there is none
    service   state directory, key, configuration

A group more is a module more and an entry in `checks.GROUPS`.
"""
