"""One adapter for TensorRT 10, TensorRT 11 and TensorRT-RTX: the only place that calls them.

All three build strongly typed networks only: the precision of every layer is written in the ONNX file. What is used
here exists in all of them: tests/runtime/test_trt_contract.py holds every attribute, call and constant in these files
against the real bindings. What differs:

                          TensorRT 10 (from 10.3)    TensorRT 11      TensorRT-RTX (from 1.4)
    module                tensorrt                   tensorrt         tensorrt_rtx
    builds for            the GPU at hand            the same         any GPUs that are named, without one
    kernels are           timed and compiled when    the same         compiled on the GPU, in the first inference
                          the engine is built                         of each shape
    targets               -                          -                IBuilderConfig.set_compute_capability
    runtime configuration -                          -                IRuntimeConfig: kernels of a shape are compiled
                                                                      before it runs ("eager"), so that it may be
                                                                      captured, and equal inputs give equal outputs
    kernels are kept      in the engine              the same         IRuntimeCache: in a file beside the engine
    layers' precisions    EngineInspector            the same         build log ("Layers:"), without a GPU
    timing cache          kept                       kept             deprecated, as nothing is timed
    implicit precision,   there, but never used      gone             gone
    calibrators
    plugins               never loaded               the same         there are none

One logger serves each library for the life of the process, as they ignore every further one.
"""
