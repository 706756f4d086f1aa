"""The specification DKS-1, executable: each operator in NumPy, slow and obvious; the kernels must reach its bits."""
