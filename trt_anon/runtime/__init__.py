"""Runtimes: a model file in, tensors in, tensors out."""
