"""Load-test an OpenAI-compatible server: `python load_test.py --help`."""

if __name__ == "__main__":
    from maxgate.loadtest.cli import main

    main()
