"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """Wrong input or setting: the message is one line that names it and the remedy.

    Jobs and the command line print the message alone and end with exit code 2;
    every other exception is a defect of ours and keeps its traceback.
    """
