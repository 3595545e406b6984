"""Quantization: from a float32 network to one with explicit QuantizeLinear and DequantizeLinear operators."""
