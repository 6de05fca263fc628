"""A scripted server: it says what it is told at set times, and notes when it really did.

Its notes are in the same clock as the client's stamps (the machine's monotonic one), so that what
the client adds can be told from what the server or the machine did.
"""
