"""What ends a run."""


class Failure(Exception):
    """Something without which nothing can be checked."""
