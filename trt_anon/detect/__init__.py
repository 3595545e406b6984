"""Detector families: what each wants as input and how its outputs become boxes."""
