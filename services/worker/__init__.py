"""Queue in, log out. Imports `plugins` and the functions, never `services.api`."""
