"""The process that answers windows with tiers too strong, or too slow, for a lane's own thread.

A lane writes a window into a slot of shared memory and goes on; if no answer is there when matching
has to begin for the deadline's sake, it answers the window itself.
"""
