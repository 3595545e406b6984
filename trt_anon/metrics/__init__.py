"""What is measured: cover and redacted pixels."""
