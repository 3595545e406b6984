"""The command `trt-anon`: one file per command, each a thin layer over the library."""
