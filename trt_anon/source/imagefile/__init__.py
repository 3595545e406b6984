"""Image files as bytes: is the file whole, what does it hold, and which parts does a decoder need."""
