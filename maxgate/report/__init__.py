"""visualize_results.py: charts, grades and advice from load test reports."""
