"""Sinks: frames in, a file out."""
