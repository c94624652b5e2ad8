"""What ends a run."""


class Failure(Exception):
    """Something without which there is nothing to measure, or nowhere to write it."""
