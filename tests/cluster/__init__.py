"""What keeps a local cluster."""
