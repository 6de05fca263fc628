"""Load-test an OpenAI-compatible server: `python load_test.py --help`."""

if __name__ == "__main__":
    from maxgate.installation import run_script

    run_script("load_test.py", "maxgate.loadtest.cli:main", extra="tools")
