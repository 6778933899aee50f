"""What outlives a training step."""
