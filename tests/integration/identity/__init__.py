"""Callers and their rights, at an API that asks for API keys."""
