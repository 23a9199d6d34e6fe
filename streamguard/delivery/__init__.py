"""Segments to people and machines: events and the sinks that carry them."""
