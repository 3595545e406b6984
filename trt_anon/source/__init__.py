"""Sources: a file in, frames out, in presentation order and in their native pixel format."""
