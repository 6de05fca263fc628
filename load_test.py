"""Load a server, measure it, judge it: `python load_test.py --help`."""

if __name__ == "__main__":
    from maxgate.loadtest.cli import main

    main()
