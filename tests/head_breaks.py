"""Breaks of the fused head, for `planted_breaks.py`."""

from breaks import Break

KERNEL, HEAD, AUTOGRAD, DISPATCH = (
    f"numbactc/{name}.py" for name in ("kernels/cpu/head", "_head", "_autograd_head", "_dispatch_head")
)

HEAD_CUDA = "numbactc/_dispatch_head_cuda.py"

HEAD_BREAKS = [
    Break(
        "fused head: a target's classes go through the dense products, too",
        KERNEL,
        "out[np.uint64(to.classes[n, k])] = 0",
        "out[np.uint64(to.classes[n, k])] *= 1",
        "test_head.py -k equal_to_float64",
    ),
    Break(
        "fused head: posteriors added to softmax",
        KERNEL,
        "coefficients[n, :T, :K] -= scores[n, :T, :K]",
        "coefficients[n, :T, :K] += scores[n, :T, :K]",
        "test_head.py -k equal_to_float64",
    ),
    Break(
        "fused head: what an utterance without a path has added stays",
        HEAD,
        "        dense = _dense(projection, saved, _slopes(call, saved.has_path).weights, wanted)\n    # a copy",
        "        pass\n    # a copy",
        "test_head_contract.py -k class_is_masked",
    ),
    Break(
        "fused head: frames of targets that do not fit are not looked at",
        HEAD,
        "others = projection.chunks(batch, ~batch.fits)",
        "others = projection.chunks(batch, ~batch.fits & batch.fits)",
        "test_head_contract.py -k nan_stays",
    ),
    Break(
        "fused head: losses that nobody asks about are swept over",
        HEAD,
        "chunks = projection.chunks(saved, weights != 0)",
        "chunks = projection.chunks(saved, saved.has_path)",
        "test_head.py -k nobody_differentiates",
    ),
    Break(
        "fused head: products under the caller's autocast",
        HEAD,
        'with torch.autocast(hidden.device.type, enabled=False):',
        'with torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu")):',
        "test_head.py -k autocast",
    ),
    Break(
        "fused head: gradients of chunks added up in half precision",
        HEAD,
        "self.weight.new_empty(shape, dtype=self.real) if want",
        "self.weight.new_empty(shape) if want",
        "test_head.py -k adds_chunks_up",
    ),
    Break(
        "fused head: half precision holds what a mean divides by",
        HEAD,
        "scale = largest.masked_fill(largest == 0, 1.0)",
        "scale = torch.ones_like(largest)",
        "test_head.py -k large_batch",
    ),
    Break(
        "fused head: a mean that forgets the number of utterances",
        HEAD,
        "slopes = 1 / (call.problem.label_counts().double() * len(has_path))",
        "slopes = 1 / call.problem.label_counts().double()",
        "test_head.py -k equal_to_float64",
    ),
    Break(
        "fused head: chunks of any size",
        HEAD,
        "self.rows_at_once = max(1, call.chunk_bytes //",
        "self.rows_at_once = max(1, 1000 * call.chunk_bytes //",
        "test_head.py -k keep_to_their_memory",
    ),
    Break(
        "fused head: a second backward takes what the first has used up",
        AUTOGRAD,
        "dense = ctx.dense.pop() if ctx.dense else None",
        "dense = ctx.dense[0] if ctx.dense else None",
        "test_head_contract.py -k backward_twice",
    ),
    Break(
        "fused head: the caller's losses are what backward reads",
        HEAD,
        "call.reduce(saved.losses.clone())",
        "call.reduce(saved.losses)",
        "test_head_contract.py -k losses_overwritten",
    ),
    Break(
        "fused head: a second derivative in silence",
        AUTOGRAD,
        "        if torch.is_grad_enabled():\n            return *Lin",
        "        if not ctx:\n            return *Lin",
        "test_head_contract.py -k second_derivative",
    ),
    Break(
        "fused head: a frame beyond an utterance's length",
        DISPATCH,
        "(torch.arange(frames) < batch.input_lengths[:, None])",
        "(torch.arange(frames) <= batch.input_lengths[:, None])",
        "test_head_contract.py -k beyond",
    ),
    Break(
        "fused head: NaN leaves weight and bias as they are",
        DISPATCH,
        "total.fill_(torch.nan)",
        "total.mul_(1)",
        "test_head_contract.py -k nan_stays",
    ),
    Break(
        "fused head: the gradient of the result does not reach the hidden states",
        DISPATCH,
        "weight[classes].to(part.dtype), beta=factor)",
        "weight[classes].to(part.dtype))",
        "test_head_contract.py -k reaches_all_three",
    ),
    Break(
        "fused head: frames that no chunk has keep what memory held",
        HEAD,
        "            of_hidden.zero_()",
        "            pass",
        "test_head.py test_head_contract.py",
    ),
    Break(
        "fused head: the first chunk is added to what memory held",
        HEAD,
        "beta=0 if first else 1",
        "beta=1",
        "test_head.py",
    ),
    Break(
        "fused head on a GPU: a mask of -1e9 is a score like any other",
        HEAD_CUDA,
        "scores.masked_fill_(scores < IMPOSSIBLE, -torch.inf)",
        "scores",
        "test_head_cuda.py -k mask_of_every",
    ),
    Break(
        "fused head on a GPU: labels beyond the last are the last again",
        HEAD_CUDA,
        "wrong.any(1) | bad_lengths | beyond",
        "wrong.any(1) | bad_lengths",
        "test_head_cuda.py -k end_too_early",
    ),
    Break(
        "fused head on a GPU: a label that comes again counts each time",
        HEAD_CUDA,
        ".masked_fill_(~self.own, 0.0)",
        "",
        "test_head_cuda.py -k come_again",
    ),
]
