"""The GPU software of this machine: what is there, what it can do, and what does not fit, each with its remedy."""

from trt_anon.gpuhost.facts import GpuHost, inspect_gpu_host
from trt_anon.gpuhost.findings import Finding, judge

__all__ = ["Finding", "GpuHost", "inspect_gpu_host", "judge"]
