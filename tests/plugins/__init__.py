"""What every process that runs tests has in common, as plugins of pytest."""
