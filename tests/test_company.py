"""All functions over a batch of 64: what one utterance does to the others, and what order, threads and processes do.

Nothing, to the last bit. `test_isolation.py` has the losses' corners.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import numbactc
from batches import Batch, loss_and_gradient, on_threads, random_batch, same_bits
from numbactc import _threads
from processes import run_python

N, VICTIM = 64, 37
Parts = list[list[Tensor]]
"""For each utterance, all that a function says of it."""


def losses(function: Callable[..., Tensor]) -> Callable[[Batch], Parts]:
    def parts(batch: Batch) -> Parts:
        values, gradient = loss_and_gradient(function, batch)
        return [[values[n], gradient[:, n].contiguous()] for n in range(len(values))]

    return parts


def aligned(batch: Batch) -> Parts:
    found = numbactc.forced_align(batch.scores, *batch.arguments())
    return [[a.path, torch.tensor(a.score), torch.tensor([s.confidence for s in a.spans])] for a in found]


def occupied(batch: Batch) -> Parts:
    states, classes = numbactc.posteriors(batch.scores, *batch.arguments())
    return [[states[:, n].contiguous(), classes[:, n].contiguous()] for n in range(states.shape[1])]


def decoded(batch: Batch) -> Parts:
    paths = numbactc.greedy_decode(batch.scores, batch.input_lengths)
    texts = numbactc.beam_search_decode(batch.scores, batch.input_lengths, 5, 2)
    return [
        [path.tokens, path.times, torch.tensor(path.score), *(torch.tensor([h.score, h.log_prob]) for h in some)]
        for path, some in zip(paths, texts, strict=True)
    ]


FUNCTIONS = {
    "ctc_loss": losses(numbactc.ctc_loss),
    "ctc_loss_with_logits": losses(numbactc.ctc_loss_with_logits),
    "forced_align": aligned,
    "posteriors": occupied,
    "decoders": decoded,
}


@pytest.fixture(params=list(FUNCTIONS.values()), ids=list(FUNCTIONS))
def parts_of(request: pytest.FixtureRequest) -> Callable[[Batch], Parts]:
    parts: Callable[[Batch], Parts] = request.param
    return parts


@pytest.fixture
def batch() -> Batch:
    batch = random_batch(30, N, 11, 6)
    batch.targets[VICTIM] = [1, 2, 2]
    batch.input_lengths[VICTIM] = 25
    return batch


def assert_same(found: Parts, expected: Parts) -> None:
    for one, other in zip(found, expected, strict=True):
        assert len(one) == len(other)
        assert all(map(same_bits, one, other))


TROUBLES = ["nan", "+inf", "-inf", "nan-everywhere", "masked-frame", "huge", "tiny", "infeasible", "no-frames", "empty"]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_sixty_three_neighbours_of_a_bad_utterance(
    parts_of: Callable[[Batch], Parts], batch: Batch, trouble: str
) -> None:
    before = parts_of(batch)
    scores, targets, input_lengths = batch.scores.clone(), list(batch.targets), list(batch.input_lengths)
    if trouble in ("nan", "+inf", "-inf"):
        scores[7, VICTIM, 2] = float(trouble)
    elif trouble == "nan-everywhere":
        scores[:, VICTIM] = math.nan
    elif trouble == "masked-frame":
        scores[7, VICTIM] = -math.inf
    elif trouble in ("huge", "tiny"):
        scores[:, VICTIM] *= 1e30 if trouble == "huge" else 1e-40
    elif trouble == "infeasible":
        targets[VICTIM] = [1] * 6
        input_lengths[VICTIM] = 9
    elif trouble == "no-frames":
        input_lengths[VICTIM] = 0
    else:
        targets[VICTIM] = []
    after = parts_of(Batch(scores, targets, input_lengths))
    if trouble not in ("-inf", "empty"):  # what a path avoids, and what decoders do not know
        assert not all(map(same_bits, after[VICTIM], before[VICTIM])), "it is not felt at all"
    assert_same(after[:VICTIM] + after[VICTIM + 1 :], before[:VICTIM] + before[VICTIM + 1 :])


def test_any_order_of_64_utterances(parts_of: Callable[[Batch], Parts], batch: Batch) -> None:
    before = parts_of(batch)
    order = torch.randperm(N).tolist()
    shuffled = Batch(batch.scores[:, order], [batch.targets[n] for n in order], [batch.input_lengths[n] for n in order])
    assert_same(parts_of(shuffled), [before[n] for n in order])


def test_any_number_of_threads_and_any_run(
    parts_of: Callable[[Batch], Parts], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_threads, "SMALLEST_SHARE", 1)
    first, *others = on_threads(lambda: parts_of(batch), 1, 2, 8, 8, 1)
    for other in others:
        assert_same(other, first)


PROCESSES = """
import multiprocessing, sys
sys.path[:0] = ["tests"]

def digest(threads):
    import hashlib, random, torch
    from numbactc import _threads
    from test_company import FUNCTIONS, random_batch
    _threads.SMALLEST_SHARE = 1
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    random.seed(0)
    batch, found = random_batch(30, 64, 11, 6), hashlib.sha256()
    for parts_of in FUNCTIONS.values():
        for tensors in parts_of(batch):
            for tensor in tensors:
                found.update(tensor.numpy().tobytes())
    return found.hexdigest()

def tell(queue, threads):
    queue.put(digest(threads))

def main():
    found = [digest(2), digest(2)]
    # PyTorch's own operators hang in a fork of a process that has used OpenMP, unless they keep to one thread
    for method, counts in (("fork", [1, 1]), ("spawn", [2])):
        context = multiprocessing.get_context(method)
        for threads in counts:
            queue = context.SimpleQueue()
            child = context.Process(target=tell, args=(queue, threads))
            child.start()
            found.append(queue.get())
            child.join()
            assert child.exitcode == 0
    print(len(found), len(set(found)))

if __name__ == "__main__":
    main()
"""


def test_forked_and_spawned_processes(tmp_path: object) -> None:
    """A process that has used its threads, again; its forks; processes of their own: one digest of all bits."""
    script = f"{tmp_path}/digests.py"
    with open(script, "w") as file:
        file.write(PROCESSES)
    assert run_python(f"import runpy; runpy.run_path({script!r}, run_name='__main__')") == "5 1\n"
