"""Regions that people draw: what they are in a file, and where they are at a moment."""
