"""Load test results: report models, files and statistics."""
