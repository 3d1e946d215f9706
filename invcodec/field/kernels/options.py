"""Compile options of every kernel, in one place.

Kernels release the interpreter lock and hold no threads of their own: callers run them on plain Python
threads, so no second thread pool exists that could fight with torch's.
"""

from numba import njit

from invcodec.compiling import CACHE

kernel = njit(nogil=True, fastmath=True, error_model="numpy", boundscheck=False, cache=CACHE)
