"""HTTP in, SSE out. Imports `plugins`, never `services.worker`."""
