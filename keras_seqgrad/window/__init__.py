"""A batch on its way through a training step.

targets    which targets and weights have a time axis, and how they are cut
missing    targets that are not there, where they count for nothing
learner    what a method changes: parameters, losses, metrics
window     what a method reads: pieces of the batch, run and judged
trail      what a forward loop over segments leaves for a backward one
loops      the loops over the segments of a window
pullback   loss and gradient of a window or a segment
opening    how a step opens the window of a batch
probe      a window beside the training: nothing changes
"""
