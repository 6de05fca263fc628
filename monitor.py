"""Monitor a gateway, its engines and the host: `python monitor.py --help`."""

if __name__ == "__main__":
    from maxgate.monitor.cli import main

    main()
