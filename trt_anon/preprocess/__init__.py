"""From frames in any pixel format to a detector's input tensor."""
