"""Errors of the model package that a user can fix."""


class ModelError(Exception):
    """A checkpoint, configuration or input that the user can correct.

    The message is one line: what it is about, what was found, what was wanted, what to do.
    """

    user_error = True  # The command line prints such errors without a traceback.
