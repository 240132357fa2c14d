"""Breaks of `patch_torch`, and of the losses under torch.func and in traces. For `planted_breaks.py`."""

from breaks import Break

AUTOGRAD, INTEGRATIONS, LOSS, TRANSFORMS, VALIDATION = (
    f"numbactc/{name}.py" for name in ("_autograd", "integrations", "loss", "_transforms", "_validation")
)

INTEGRATION_BREAKS = [
    Break(
        "patch: behind a blank, a label that is no class reaches PyTorch",
        VALIDATION,
        "any(outside[start : start + length].any() for start, length in utterances)",
        "outside[start + position]",
        "test_integrations.py -k never_reaches",
    ),
    Break(
        "patch: the first that is undone ends all",
        INTEGRATIONS,
        "            if _patches == 1:",
        "            if True:",
        "test_patch.py -k any_order",
    ),
    Break(
        "patch: what came after it is thrown away",
        INTEGRATIONS,
        "if torch.ctc_loss is not _replacement():",
        "if False:",
        "test_patch.py -k somebody_else",
    ),
    Break(
        "patch: a reason is told again with each value",
        INTEGRATIONS,
        'kind = reason.partition(", got ")[0]',
        "kind = reason",
        "test_integrations.py -k told_again",
    ),
    Break(
        "patch: torch.compile looks into it",
        INTEGRATIONS,
        "torch.compiler.disable(_ctc_loss)",
        "_ctc_loss",
        "test_patch.py -k between_their_graphs",
    ),
    Break(
        "patch: modes do not see the call",
        INTEGRATIONS,
        "if has_torch_function_variadic(*tensors):",
        "if False:",
        "test_patch.py -k torch_function",
    ),
    Break(
        "patch: a trace holds the loss of one call",
        INTEGRATIONS,
        "if torch._C._is_tracing() or",
        "if False and",
        "test_patch.py -k traces",
    ),
    Break(
        "patch: numbers of reductions in another order",
        INTEGRATIONS,
        "dict(enumerate(REDUCTIONS))",
        "dict(enumerate(reversed(REDUCTIONS)))",
        "test_integrations.py -k whatever_way",
    ),
    Break(
        "a trace of the loss holds the values of one call",
        LOSS,
        " or _ops.is_watched(scores)",
        "",
        "test_training_tools.py -k watches",
    ),
    Break(
        "a forward-mode tangent is dropped in silence",
        AUTOGRAD,
        "if forward_ad.unpack_dual(scores).tangent is not None:",
        "if False:",
        "test_transforms.py -k forward_mode",
    ),
    Break(
        "many weights of the losses by the older vmap, with a graph that has no derivative",
        AUTOGRAD,
        "    if torch.is_grad_enabled():\n        raise RuntimeError(NO_SECOND_DERIVATIVE)\n",
        "",
        "test_transforms.py -k older",
    ),
    Break(
        "torch.func: targets of single utterances stand one after the other",
        TRANSFORMS,
        "targets.flatten(1) if unbatched else targets.flatten(0, 1)",
        "targets.flatten(0, 1)",
        "test_transforms.py -k each_utterance",
    ),
    Break(
        "torch.func: what comes after the loss does not weigh its gradient",
        TRANSFORMS,
        "(gradient * grad_losses.unsqueeze(-1))",
        "gradient",
        "test_transforms.py -k each_utterance",
    ),
]
