"""Compile options shared by all kernels.

Kernels release the GIL and start no threads: callers run them on Python threads, so that no second thread pool
competes with torch's.
"""

from invcodec.compiling import compiler

kernel = compiler(nogil=True, fastmath=True, error_model="numpy", boundscheck=False)
