"""A table of public calls: what each argument may be of some odd values.

Whatever else of `VALUES` is given is a bad call; tests/test_bad_calls.py makes
them all.
"""
