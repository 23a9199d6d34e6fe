"""Many machines: streams shared out over nodes, by a head that may come and go. Ray is in `cluster.py` alone."""
