"""The one exception for what the user can mend: it becomes one line and exit code 2 (specs: Exit codes)."""


class UserError(ValueError):
    """A bad option, file or datum. The message names the file or option, the field, what was expected and found."""
