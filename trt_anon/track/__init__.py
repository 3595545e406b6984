"""Detections joined over time: small arrays on the host, whatever device the frames are on."""
