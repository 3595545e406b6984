"""Non-maximum suppression and the merging of detections."""
