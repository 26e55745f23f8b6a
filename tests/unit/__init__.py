"""Tests that need no Redis."""
