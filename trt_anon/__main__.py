"""`python -m trt_anon` is the command `trt-anon`."""

from trt_anon.cli.main import run

if __name__ == "__main__":
    run()
