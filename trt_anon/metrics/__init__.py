"""What is measured: matching, precision and recall, cover and redacted pixels, intervals."""
