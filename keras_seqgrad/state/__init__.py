"""What outlives a training step.

vector         the state of a model as one vector for each row
carried        the state of each row, from window to window
method_state   what a method learns or draws, saved with the model
runs           what fit, evaluate and predict need around a carried state
"""
