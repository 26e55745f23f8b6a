"""The two deployables. They share `plugins` and never import each other."""
