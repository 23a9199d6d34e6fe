"""The HTTP face of a running Guard."""
