"""Who is calling."""


def owner() -> str:
    """The owner of what the request starts, and of all that it may see. Until there is authentication, all are one."""
    return "anonymous"
