"""A Keras model as a function of a segment: (inputs, state) to outputs.

passage     what accompanies one pass over a segment
nodes       recurrent layers inside a traced graph
tracing     calls of layers while a graph is traced: their tensors, their kinds
uncuttable  what cannot be cut in time, known before it runs
spread      what a model has at every step alike
axes        which tensors of a graph have a time axis
with_mask   a mask that a part of a model is given beside its inputs
head        what of a model needs all steps of a sequence at once
trace       one pass over a Keras model that calls its layers anew
graph       any Sequential or Functional model, and what of it can be cut
example     inputs on which a model can be tried
replay      the calls of a graph once more, layer by layer
compared    whether two ways to compute a tensor agree
refusals    what a trial refuses by what it has seen
trial       a graph tried on inputs, whole and in segments
cuttable    proof by numbers that a graph may be cut in time
reached     what a loss on some of the outputs depends on
naming      inputs by name, beside their companions
export      a segmented model as functions for serving
scans       which scan runs each recurrent layer, and whether XLA does
handles     what users of a Keras model reach for: layers, shapes, summary
opaque      a model whose segment function is a subclass's own
described   what a segmented model takes and gives, and what of it has time
segmented   the model as methods run and differentiate it: the forward half
front       what of a model must run on all steps before anything can be cut
normed      a model that norms whole windows, for methods with checkpoints
"""
