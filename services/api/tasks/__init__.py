"""A task's life as the API sees it: it is submitted, looked up, held to limits, recovered and ended."""
