"""Where to begin to read: one concept in each file, shown by a few short tests."""
