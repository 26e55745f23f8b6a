"""Where messages come from, and where those wait that must not start here now."""
