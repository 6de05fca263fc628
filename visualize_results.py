"""Charts, grades and advice from reports: `python visualize_results.py --help`."""

if __name__ == "__main__":
    from maxgate.report.cli import main

    main()
