"""Speed and memory in tables: `python -m benchmarks`.

    table       a table, where it was measured, and its place in a page
    timing      arms that take turns
    memory      the peak of a training step, in a process of its own
    characters  the model on characters that several tables have in common
    rivals      PyTorch and JAX, where they are installed

Every other file is one or several tables: `tables(quick)` yields them, each as
soon as it is measured. With `quick` they are tiny and their figures mean
nothing; it shows that they run.
"""
