"""Monitor a gateway, its engines and the host: `python monitor.py --help`."""

if __name__ == "__main__":
    from maxgate.installation import run_script

    run_script("monitor.py", "maxgate.monitor.cli:main", extra="tools")
