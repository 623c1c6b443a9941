"""X and Z together: the likeliest set of *faults*, looked for from several sides.

A fault of several edges, such as a Y error, has an edge in the graph of the X checks and one in
that of the Z checks. Matching pays for each; correlated matching corrects for that once, in one
direction. Here, for each logical class of a window (the parity of boundary edges of one side, which
an extra event fixes: see `qdec.match.gap`):

1. *Starts*: the window is matched with the weights of faults of one edge, and with a network's.
2. *Turns*: the edges of one basis are kept, the other basis is matched with what its edges cost
   *beside* them: the fault's weight less that of the edges it shares, where they are there. Then
   the other way round, until nothing changes. Each start goes both ways round.
3. Every set of edges on the way is priced as faults, the fault that saves most first. A class
   weighs minus the log of the sum of exp(-weight) over its distinct sets: many explanations that
   are nearly as likely count together.

The answer is the lightest set of the class that weighs less. Nothing here is certain to be the
optimum: each turn is a descent, and it may stop in a valley. With the network's start and the plain
one the valleys differ; see perf/results/joint.json for how often the true minimum is found.

It costs some tens of matchings, so it is for the windows that quicker decoders are not sure of.
Each is bounded, and what is beyond the bounds is not found: then there may be no answer.
"""

from qdec.match.joint.decoder import JointAnswers, JointDecoder

__all__ = ["JointAnswers", "JointDecoder"]
