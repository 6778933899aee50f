"""Regularised inverses of recurrent cells, and the recursion on top of them."""
