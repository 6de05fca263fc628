"""Reports of load tests as charts, grades and advice."""
