"""How tensors run on hardware: one port, one adapter a file."""
