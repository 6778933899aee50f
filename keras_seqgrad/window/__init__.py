"""A batch on its way: cut into segments, run, pulled back, entered."""
