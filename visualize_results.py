"""Show charts, grades and advice from load test reports; see `--help`."""

if __name__ == "__main__":
    from maxgate.installation import run_script

    run_script("visualize_results.py", "maxgate.report.cli:main", extra="tools")
