"""Redaction: regions of a frame are destroyed in its own planes."""
