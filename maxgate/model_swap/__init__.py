"""Models that are started, stopped and swapped while the gateway runs."""
