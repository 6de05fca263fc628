"""Live view of a gateway, its engines and the host: the program `monitor.py`."""
