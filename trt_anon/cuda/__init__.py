"""CUDA kernels: loading, launching and checking them, on a GPU through CuPy or on the CPU as a host build."""
