"""`Failure`: an error whose text is for the readers of a task.

The text of any other exception may have what no reader should see: an address with a password, a prompt, a query.
"""


class Failure(Exception):  # noqa: N818  # it is what the task's end is called
    """Raise it, or a subclass, to fail the attempt and to say why: its message is the message of `failed`."""
