"""A batch on its way through a training step.

agreement  whether the shapes of a batch agree, before it is traced
shapes     what shapes inputs, targets and weights may have
timed      what must have the steps of the window
per_step   whether a loss is a mean over steps, so that it may be cut
by_output  what belongs to which output
further_axes  weights and masks for losses of several places a row or step
targets    which targets and weights have a time axis, and how they are cut
missing    targets that are not there, where they count for nothing
losses     the loss of a segment
learner    what a method changes: parameters, losses, metrics
ends       where the sequence of each padded row ends
window     what a method reads: pieces of the batch, run and judged
trail      what a forward loop over segments leaves for a backward one
adding     whether logs of segments add up to those of the window
books      what segments leave for the window's line in the logs
loops      the loops over the segments of a window
pullback   loss and gradient of a window or a segment
summed     a window's loss pulled back by segments, with what layers add
opening    how a step opens the window of a batch
behind     a window behind the front of a model: what of it can be cut
probe      a window beside the training: nothing changes
"""
