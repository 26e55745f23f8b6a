"""Tests of workers that each test starts, freezes and ends as it needs them, on a Redis of their own."""
