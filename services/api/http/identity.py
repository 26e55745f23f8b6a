"""The owner of a request."""


def owner() -> str:
    """Return the owner of what the request starts and may see. Until there is authentication, all have the same."""
    return "anonymous"
