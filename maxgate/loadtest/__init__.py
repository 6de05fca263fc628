"""The load test: worker processes send requests, and the analysis turns records into a report."""
