"""The functions of this worker: found, described, announced."""
