"""Show charts, grades and advice from load test reports; see `--help`."""

if __name__ == "__main__":
    from maxgate.report.cli import main

    main()
