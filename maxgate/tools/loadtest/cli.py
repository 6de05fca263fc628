"""The command `load_test.py`."""


def main() -> None:
    """Run it and exit."""
