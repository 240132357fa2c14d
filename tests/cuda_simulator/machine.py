"""Threads, warps and blocks: who runs, who waits for whom, and what a warp operation gives each lane."""

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from greenlet import getcurrent, greenlet

from cuda_simulator.binding import bind, scalar_type
from cuda_simulator.memory import Buffer, LocalArray, Pointer, Race, SharedArray

WARP = 32
ALL_LANES = 0xFFFFFFFF


class Deadlock(RuntimeError):
    """Threads that wait for each other are not at the same place, or will never come."""


class Block:
    def __init__(self, index: tuple[int, int], size: int, number: int) -> None:
        self.index, self.size, self.number = index, size, number
        self.barriers = 0
        self.shared: dict[Any, Buffer] = {}


class Warp:
    def __init__(self) -> None:
        self.threads: list[Thread] = []
        self.synchronisations = 0
        self.at_barrier: Any = None


def quietly(function: Callable[..., None]) -> Callable[..., None]:
    """Without NumPy's warnings: a GPU gives none. Each greenlet has such settings of its own."""

    def run(*arguments: Any) -> None:
        with np.errstate(all="ignore"):
            function(*arguments)

    return run


class Thread(greenlet):  # type: ignore[misc]
    """One thread; it runs until it asks for a synchronisation, which it hands to the scheduler."""

    def __init__(self, function: Callable[..., None], block: Block, warp: Warp, number: int) -> None:
        super().__init__(quietly(function))
        self.block, self.warp, self.number = block, warp, number
        self.lane = number % WARP
        self.request: Any = None
        self.value: Any = None
        self.answer: Any = None

    def stamp(self) -> tuple["Thread", int, int]:
        return self, self.block.barriers, self.warp.synchronisations

    def must_follow(self, other: tuple["Thread", int, int], name: str, index: int) -> None:
        """Raise unless something has synchronised this thread with what another did."""
        thread, barriers, synchronisations = other
        if thread is self:
            return
        same_block = thread.block is self.block
        in_order = same_block and (
            self.block.barriers > barriers
            or (thread.warp is self.warp and self.warp.synchronisations > synchronisations)
        )
        if not in_order:
            raise Race(f"{name}[{index}]: {self} meets what {thread} did")

    def __str__(self) -> str:
        return f"thread {self.number} of block {self.block.index}"

    def wait(self, kind: str, value: Any = None, by: int = 0) -> Any:
        caller = sys._getframe(2)
        self.request = (kind, by if kind != "index" else 0, caller.f_code, caller.f_lasti)
        self.value = (value, by)
        return self.parent.switch()


class Index:
    """x and y of a thread, a block or their numbers."""

    def __init__(self, which: Callable[[Thread], tuple[int, int]]) -> None:
        self.which = which

    x = property(lambda self: np.int32(self.which(getcurrent())[0]))
    y = property(lambda self: np.int32(self.which(getcurrent())[1]))


class Arrays:
    """cuda.shared and cuda.local."""

    @staticmethod
    def shared(size: int, dtype: Any) -> Any:
        caller = sys._getframe(1)
        shared, key = getcurrent().block.shared, (caller.f_code, caller.f_lasti)
        if key not in shared:
            shared[key] = Buffer(np.empty(size, dtype), f"shared array of {caller.f_code.co_name}", shared=True)
        return SharedArray(shared[key])

    @staticmethod
    def local(size: int, dtype: Any) -> Any:
        return LocalArray(size, dtype)


class _Namespace:
    def __init__(self, **names: Any) -> None:
        self.__dict__.update(names)


class Cuda:
    """What a kernel finds under the name `cuda`."""

    shared = _Namespace(array=Arrays.shared)
    local = _Namespace(array=Arrays.local)
    threadIdx = Index(lambda thread: (thread.number, 0))
    blockIdx = Index(lambda thread: thread.block.index)
    blockDim = Index(lambda thread: (thread.block.size, 1))

    @staticmethod
    def syncthreads() -> None:
        getcurrent().wait("barrier")

    @staticmethod
    def syncwarp() -> None:
        getcurrent().wait("synchronise")

    @staticmethod
    def shfl_xor_sync(mask: int, value: Any, by: Any) -> Any:
        assert mask == ALL_LANES
        return getcurrent().wait("xor", value, int(by))

    @staticmethod
    def shfl_up_sync(mask: int, value: Any, by: Any) -> Any:
        assert mask == ALL_LANES
        return getcurrent().wait("up", value, int(by))

    @staticmethod
    def ballot_sync(mask: int, predicate: Any) -> Any:
        assert mask == ALL_LANES
        return getcurrent().wait("ballot", bool(predicate))

    @staticmethod
    def popc(bits: Any) -> int:
        return bin(int(bits) & ALL_LANES).count("1")


def answer(warp: Warp) -> None:
    """Let a warp operation take place: all lanes are in it, or it is an error."""
    first = warp.threads[0].request
    for thread in warp.threads:
        if thread.dead or thread.request != first:
            raise Deadlock(f"{thread} is not where lane 0 of its warp waits, at a warp operation: {first}")
    kind = first[0]
    values = [thread.value[0] for thread in warp.threads]
    for thread in warp.threads:
        lane, by = thread.lane, thread.value[1]
        if kind == "xor":
            thread.answer = values[lane ^ by]
        elif kind == "up":
            thread.answer = values[lane - by] if lane >= by else values[lane]
        elif kind == "ballot":
            thread.answer = np.uint32(sum(1 << lane for lane, value in enumerate(values) if value))
        elif kind == "synchronise":
            warp.synchronisations += lane == 0


def run_block(function: Callable[..., None], arguments: Sequence[Any], block: Block, order: random.Random) -> None:
    warps = [Warp() for _ in range(block.size // WARP)]
    for number in range(block.size):
        warp = warps[number // WARP]
        warp.threads.append(Thread(function, block, warp, number))
    running = list(warps)
    started: set[int] = set()
    while running:
        warp = order.choice(running)
        threads = warp.threads[:]
        order.shuffle(threads)
        for thread in threads:
            if thread.number in started:
                thread.switch(thread.answer)
            else:
                started.add(thread.number)
                thread.switch(*arguments)
        if all(thread.dead for thread in threads):
            running.remove(warp)
        elif warp.threads[0].dead or warp.threads[0].request[0] == "barrier":
            site = warp.threads[0].request
            if any(thread.dead or thread.request != site for thread in threads):
                raise Deadlock(f"some lanes of a warp of block {block.index} are at a barrier or gone, others are not")
            warp.at_barrier = site
            running.remove(warp)
        else:
            answer(warp)
        if not running:
            waiting = [warp for warp in warps if warp.at_barrier]
            if not waiting:
                return
            if len(waiting) < len(warps) or len({warp.at_barrier for warp in waiting}) > 1:
                raise Deadlock(f"not all warps of block {block.index} came to a barrier, or to the same one")
            block.barriers += 1
            for warp in waiting:
                warp.at_barrier = None
                for thread in warp.threads:
                    thread.answer = None
            running = waiting


def launch(
    function: Callable[..., None],
    argument_types: Sequence[Any],
    grid: tuple[int, int],
    block: int,
    arguments: Sequence[Any],
    seed: int = 0,
) -> None:
    """Run a kernel to its end; blocks come in a random order, too.

    Args:
        argument_types: Numba's.
        arguments: numbers, and a `Buffer` or `Pointer` for each pointer.
    """
    assert block % WARP == 0 and len(argument_types) == len(arguments)
    order = random.Random(seed)
    bound = bind(function, Cuda())
    converted: list[Any] = []
    for kind, argument in zip(argument_types, arguments, strict=True):
        if isinstance(argument, (Buffer, Pointer)):
            pointer = Pointer(argument) if isinstance(argument, Buffer) else argument
            assert pointer.buffer.array.dtype == scalar_type(kind.dtype), (pointer.buffer.name, kind)
            pointer.buffer.begin_launch()
            converted.append(pointer)
        else:
            converted.append(scalar_type(kind)(argument))
    indices = [(x, y) for y in range(grid[1]) for x in range(grid[0])]
    order.shuffle(indices)
    for number, index in enumerate(indices):
        run_block(bound, converted, Block(index, block, number), order)
