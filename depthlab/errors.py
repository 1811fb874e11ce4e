"""The exceptions that end a command with one line."""


class UserError(ValueError):
    """Bad input. The message is one line: the file, line or field at fault, and the way out.

    The command line prints it without a traceback and exits with status 2.
    """


class BadNumbers(FloatingPointError):
    """A loss, a gradient or a weight is NaN or infinite. The message is one line: where, and of what step.

    The command line prints it without a traceback and exits with status 1.
    """
