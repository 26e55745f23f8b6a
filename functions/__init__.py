"""Drop-in functions, one file each. A worker loads every file of this folder; a file that begins with `_` it skips."""
