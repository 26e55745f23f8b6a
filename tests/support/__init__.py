"""Helpers of the tests: processes, servers, clients, and ways to wait. Nothing here is a test."""
