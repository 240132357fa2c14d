"""Breaks of the decoders for `planted_breaks.py`."""

from breaks import Break

BEAM, CANDIDATES, PREFIXES, SCORING = (
    f"numbactc/kernels/cpu/{name}.py" for name in ("beam", "candidates", "prefixes", "scoring")
)
DECODING, HYPOTHESES, DISPATCH, DISPATCH_SCORING, HOTWORDS = (
    f"numbactc/{name}.py" for name in ("decoding", "_hypotheses", "_dispatch_beam", "_dispatch_scoring", "_hotwords")
)

BEAM_BREAKS = [
    Break(
        "greedy: runs are not merged",
        DECODING,
        "    begins[1:] &= classes[1:] != classes[:-1]\n",
        "",
        "test_greedy.py -k runs_merge",
    ),
    Break(
        "beam: an equal token without a blank between merges into a prefix that is there",
        CANDIDATES,
        "leaving(old, place, prefixes.token[parent] == token)",
        "leaving(old, place, False)",
        "test_beam_search.py -k holds_everything_finds",
    ),
    Break(
        "beam: an equal token without a blank between makes a new prefix",
        CANDIDATES,
        "            mass = old.blank[place] if token == last else before\n",
        "            mass = before\n",
        "test_beam_search.py -k equal_tokens",
    ),
    Break(
        "beam: what comes from a prefix's parent is not added",
        CANDIDATES,
        "                label += mass * p\n",
        "                label += 0.0 * mass\n",
        "test_beam_search.py -k best_sum",
    ),
    Break(
        "beam: a prefix that comes back is a new one",
        PREFIXES,
        "    if slot >= 0:\n",
        "    slot = min(slot, ~slot)\n    if slot >= 0:\n",
        "test_beam_search.py -k comes_back",
    ),
    Break(
        "beam: a bound from a beam that is not full",
        BEAM,
        "    if size == settings.width:\n",
        "    if size > 1:\n",
        "test_beam_search.py -k beams_size",
    ),
    Break(
        "beam: a bound that one candidate too few reaches",
        CANDIDATES,
        "kth_largest(work.pool, count, settings.width) * SLACK",
        "kth_largest(work.pool, count, max(1, settings.width - 1)) * SLACK",
        "test_beam_search.py -k beams_size",
    ),
    Break(
        "beam: one of several equals too few",
        CANDIDATES,
        "    ties = settings.width\n",
        "    ties = settings.width - 1\n",
        "test_beam_search.py -k equally_likely",
    ),
    Break(
        "beam: a token begins when it first entered the beam",
        CANDIDATES,
        "                if arriving > path:\n",
        "                if False:\n",
        "test_beam_search.py -k first_thought_of",
    ),
    Break(
        "beam: the scale's exponent forgotten",
        BEAM,
        "    state.counts[EXPONENT] += exponent\n",
        "",
        "test_beam_search.py -k found_twice",
    ),
    Break(
        "beam: a NaN after an impasse overlooked",
        BEAM,
        "        if row_is_bad(row):\n",
        "        if counts[FATE] == ALIVE and row_is_bad(row):\n",
        "test_beam_search.py -k after_an_impasse",
    ),
    Break(
        "beam: exponentials of the utterance before",
        BEAM,
        "    tree.fill(work.computed, row.size, -1)\n",
        "",
        "test_beam_contract.py -k one_by_one",
    ),
    Break(
        "beam: log_prob of frames beyond the length",
        HYPOTHESES,
        "frames = [int(lengths[n])] * some.scores.size",
        "frames = [len(scores)] * some.scores.size",
        "test_beam_search.py -k log_prob_is_exact",
    ),
    Break(
        "beam: factors of nodes that have been renumbered",
        BEAM,
        "        if prefixes.used[tree.COLLECTIONS] != work.marks[1]:\n",
        "        if False:\n",
        "test_beam_streaming.py -k memory_is_collected",
    ),
    Break(
        "beam: scores of nodes stay behind when they are renumbered",
        PREFIXES,
        "                move_standing(prefixes.standing, old, count)\n",
        "                pass\n",
        "test_beam_scoring.py -k nodes_are_collected",
    ),
    Break(
        "beam: only the last token's share of the language model",
        SCORING,
        "standing.nats[parent] + nats",
        "nats",
        "test_beam_scoring.py -k model_of_tokens",
    ),
    Break(
        "beam: a bonus is no part of what a token gains at most",
        DISPATCH_SCORING,
        "np.full(extras.classes, extras.token_bonus)",
        "np.zeros(extras.classes)",
        "test_beam_scoring.py -k beams_size",
    ),
    Break(
        "beam: a word's bonus is no part of what its end gains at most",
        DISPATCH_SCORING,
        "+= max(0.0, by_word)",
        "+= 0.0",
        "test_beam_scoring.py -k words_and_hotwords",
    ),
    Break(
        "beam: a hotword's bonus is no part of what a token gains at most",
        DISPATCH_SCORING,
        "        most += highest(hot, extras.classes)\n",
        "        pass\n",
        "test_beam_scoring.py -k words_and_hotwords",
    ),
    Break(
        "beam: of words spelled alike the first counts",
        SCORING,
        "        if nats > best:\n",
        "        if i == first:\n",
        "test_beam_scoring.py -k homophones",
    ),
    Break(
        "beam: a hotword that is cut off keeps its part",
        SCORING,
        "        total -= scorer.stakes[hot]\n",
        "",
        "test_beam_scoring.py -k hotwords_anywhere",
    ),
    Break(
        "beam: a hotword within another is overlooked",
        HOTWORDS,
        "            states[child].bonus += end.bonus\n",
        "",
        "test_beam_scoring.py -k hotwords_anywhere",
    ),
    Break(
        "beam: an unknown word's length does not count",
        SCORING,
        "max(1.0, letters / USUAL_LENGTH)",
        "1.0",
        "test_beam_scoring.py -k longer_it_is",
    ),
    Break(
        "streaming: a state changes after it was handed out",
        DISPATCH,
        "        memory = self._state.reshape(1).view(np.uint8).copy()\n",
        "        memory = self._state.reshape(1).view(np.uint8)\n",
        "test_beam_streaming.py -k never_changed",
    ),
    Break(
        "rescoring: what extras add is taken for paths that the beam has found",
        BEAM,
        "            found[i] -= tree.log_factors(node, prefixes)\n",
        "",
        "test_beam_rescoring.py -k extras",
    ),
    Break(
        "rescoring: texts stay in the beam's order",
        HYPOTHESES,
        "    if rescore:\n        hypotheses",
        "    if False:\n        hypotheses",
        "test_beam_rescoring.py -k exact_log_probability",
    ),
]
