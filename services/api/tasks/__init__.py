"""A task's life as the API sees it: it is submitted, loaded, limited, recovered and ended."""
