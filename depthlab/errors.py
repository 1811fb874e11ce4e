"""The one exception that is the user's to mend."""


class UserError(ValueError):
    """Bad input. The message is one line: the file, line or field at fault, and the way out.

    The command line prints it without a traceback and exits with status 2.
    """
