"""What `planted_breaks.py` plants in `numbactc.pyctcdecode`."""

from breaks import Break

BEAMS, DECODER, SPELLING, ALPHABET, MODEL = (
    f"numbactc/pyctcdecode/{name}.py" for name in ("beams", "decoder", "spelling", "alphabet", "language_model")
)

PYCTCDECODE_BREAKS = [
    Break(
        "pyctcdecode: hypotheses of the same words stay apart",
        BEAMS,
        "        if text in merged:",
        "        if text in merged and False:",
        "test_pyctcdecode.py -k all_alignments",
    ),
    Break(
        "pyctcdecode: no bonus for words in the score that is told",
        BEAMS,
        " + model.beta * len(words)",
        "",
        "test_pyctcdecode.py -k all_alignments",
    ),
    Break(
        "pyctcdecode: the end of the sentence counts where it should not",
        BEAMS,
        "if model.score_boundary else hypothesis.lm_score - model.end_of(state)",
        "if True else 0.0",
        "test_pyctcdecode.py -k goes_on_from_a_state",
    ),
    Break(
        "pyctcdecode: a word ends where its last label begins",
        BEAMS,
        "min(int(ends[time]), times[word.last + 1]) if goes_on else time + 1",
        "time + 1",
        "test_pyctcdecode.py -k words_lie",
    ),
    Break(
        "pyctcdecode: a word goes on into the next",
        BEAMS,
        "min(int(ends[time]), times[word.last + 1])",
        "int(ends[time])",
        "test_pyctcdecode.py -k next_begins",
    ),
    Break(
        "pyctcdecode: the state to go on from is not used",
        DECODER,
        "model.starting_at(start)",
        "model.model",
        "test_pyctcdecode.py -k goes_on_from_a_state",
    ),
    Break(
        "pyctcdecode: hotwords count inside of words",
        DECODER,
        "            boundary=self._alphabet.boundary,\n",
        "",
        "test_pyctcdecode.py -k at_least_as_good",
    ),
    Break(
        "pyctcdecode: probabilities are taken for logits",
        DECODER,
        "if scores.size and scores.min() >= 0 and",
        "if scores.size and scores.min() > 0.5 and",
        "test_pyctcdecode.py -k same_input",
    ),
    Break(
        "pyctcdecode: unknown words cost nothing",
        MODEL,
        "return max(0.0, -self.unk_score_offset * self.alpha * LN_10)",
        "return 0.0",
        "test_pyctcdecode.py -k all_alignments",
    ),
    Break(
        "pyctcdecode: <pad> is a label like others",
        ALPHABET,
        'labels = ["" if BLANK_TOKEN_PTN.match(label) else label for label in labels]\n    if "" not in labels:',
        'if "" not in labels:',
        "test_pyctcdecode.py -k become_pyctcdecodes",
    ),
    Break(
        "pyctcdecode: a model is looked through for each state",
        MODEL,
        "moved.start_state, moved.highest = state, self.model.highest",
        "moved.start_state = state",
        "test_pyctcdecode.py -k through_once",
    ),
]
