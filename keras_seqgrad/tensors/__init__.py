"""Small functions on tensors and arguments: below everything else."""
