"""Kept apart from the readers, so that catching the error does not import numpy and gguf."""

from maxgate.errors import MaxgateError


class ModelFileError(MaxgateError):
    """A model file is damaged, incomplete or of a kind that MAX cannot serve."""
