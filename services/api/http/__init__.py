"""What HTTP brings and takes, whatever the request is about."""
