"""Runs a CUDA kernel's own Python source on a CPU, one greenlet a thread, and is strict where a GPU is lenient.

    launch(function, argument_types, grid, block, arguments, seed=0)

- Threads run one at a time, in a random order that the seed decides, from one synchronisation to the next.
- Lanes that meet in a warp operation must all be there, at the same place of the source; so must a block's threads in a
  barrier. What a GPU might let pass, or wait for without an end, is an error.
- Every access to memory is checked: out of bounds, negative, of what nobody has written, or racing with another
  thread's since the last synchronisation of the two.
- float32 and int32 are NumPy's; `intrinsics.py` has what Numba compiles to machine instructions.
"""

from cuda_simulator.machine import Deadlock, launch
from cuda_simulator.memory import Buffer, Fault, Pointer, Race

__all__ = ["Buffer", "Deadlock", "Fault", "Pointer", "Race", "launch"]
