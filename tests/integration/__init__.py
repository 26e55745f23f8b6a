"""The services as their users meet them, against a real Redis."""
