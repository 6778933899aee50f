"""Small functions that know nothing of models: below everything else.

arguments   checks of numbers that users give
logits      what a softmax or sigmoid is made of, which a loss goes back through
masks       the time mask that Keras lets a tensor carry
nested      lists and nested structures of tensors
pieces      a sequence divided, cut, and gone through in a loop
shape       how large the axes of a tensor are, known or not
"""
