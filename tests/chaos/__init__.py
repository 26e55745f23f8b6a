"""Tests that take minutes: the outages that they wait for last as long in production."""
