"""A Keras model as a function of a segment."""
