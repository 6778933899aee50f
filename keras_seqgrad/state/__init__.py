"""What outlives a training step.

vector         the state of a model as one vector for each row
rows           a tensor for the rows of a batch, where they are trained
carried        the state of each row, from window to window
method_state   what a method learns or draws
seeds          what layers draw from, which Keras does not save
beside         how both are kept and saved, without being weights
compiled       what a file says of the method, and must say
snapshot       all of it, and the weights, as arrays
runs           what fit, evaluate and predict need around a carried state
by_rows        what Keras compiles for a run, once for each number of rows
"""
