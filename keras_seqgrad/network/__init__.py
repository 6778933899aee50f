"""A Keras model as a function of a segment: (inputs, state) to outputs.

passage     what accompanies one pass over a segment
nodes       recurrent layers inside a traced graph
graph       any Sequential or Functional model, traced on the same layers
cuttable    proof by numbers that a graph may be cut in time
export      a segmented model as functions for serving
handles     what users of a Keras model reach for: layers, shapes, summary
segmented   the model as methods run and differentiate it: the forward half
"""
