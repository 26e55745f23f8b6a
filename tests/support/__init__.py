"""What the tests are made with: processes, servers, clients, and ways to wait. Nothing here is a test."""
