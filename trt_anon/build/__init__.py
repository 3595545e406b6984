"""Building: ONNX files are checked, patched for free sizes, and given a uint8 input."""
