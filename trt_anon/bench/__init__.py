"""How fast the pipeline is on this machine, stage by stage, and against what could be reached: `trt-anon bench`."""

from trt_anon.bench.compare import Comparison, compare
from trt_anon.bench.plots import write_plots
from trt_anon.bench.result import BenchResult, read_result, write_result
from trt_anon.bench.run import run_bench
from trt_anon.bench.settings import BenchSettings

__all__ = [
    "BenchResult",
    "BenchSettings",
    "Comparison",
    "compare",
    "read_result",
    "run_bench",
    "write_plots",
    "write_result",
]
