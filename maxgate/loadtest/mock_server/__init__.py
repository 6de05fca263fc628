"""A mock server that sends scripted responses at set times and records when it really sent them.

Its timestamps come from the same monotonic clock as the client's, so the client's own error can be
separated from delays of the server or the machine.
"""
