"""`maxgate doctor`: check a running installation, or the settings it would start with."""
