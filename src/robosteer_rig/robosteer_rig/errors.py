"""The error that a user can fix."""


class RobosteerError(Exception):
    """Input, configuration or data that the user can correct.

    The message is one line: what it is about, what was found, what was wanted, what to do.
    Plain exceptions are bugs of ours.
    """

    user_error = True  # The command line prints such errors without a traceback.
