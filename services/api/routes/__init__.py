"""The calls: one file for each group of them, without Redis commands of its own."""
