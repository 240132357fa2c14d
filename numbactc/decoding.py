"""Text out of scores: the best path of each utterance, and its most likely texts by prefix beam search."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from numbactc import _dispatch_beam, _hypotheses, _scoring, _validation_decoding
from numbactc._hypotheses import Hypothesis as Hypothesis
from numbactc._validation import Lengths
from numbactc.language_model import NgramLM
from numbactc.lexicon import Lexicon


class BestPath(NamedTuple):
    """The text of an utterance's best path.

    Attributes:
        tokens: (L,) int64, on the CPU.
        times: (L,) int64: the frame in which each token begins.
        score: log-probability of the path, in nats.
    """

    tokens: Tensor
    times: Tensor
    score: float


def greedy_decode(
    log_probs: Tensor, lengths: Lengths | None = None, *, blank: int = 0, batch_first: bool = False
) -> list[BestPath]:
    r"""The best path of each utterance: the best class in each frame, runs merged and blanks removed.

    That path is the most likely one, but its text need not be: `numbactc.beam_search_decode` adds up a text's paths.

    Args:
        log_probs: (T, N, C), or (T, C) for a single utterance, float32, float64, bfloat16 or float16, on the CPU or an
            NVIDIA GPU, with any strides: logarithms to base e. T frames, N utterances, C classes. Of equal scores in a
            frame the first class wins.
        lengths: (N,) frames of each utterance, from 0 to T: a list, tuple or tensor (int32, int64); None for T each.
        blank: the class that stands for no token, from 0 to C - 1.
        batch_first: log_probs is (N, T, C). Nothing is copied for it.

    Returns:
        N paths; one for (T, C). On a GPU scores stay where they are: the best class and score of each frame are copied.

    Raises:
        TypeError: an argument of another type or dtype.
        ValueError: an argument of another shape or out of range; the message names the utterance.
        NotImplementedError: scores on another device than a CPU or an NVIDIA GPU.

    Edge cases, each by utterance; neighbours never feel them:

        ===================================  ==================  ===========
        case                                 tokens, times       score
        ===================================  ==================  ===========
        no frames                            empty               0
        a frame of -inf throughout           empty               -inf
        a score of NaN or +inf               empty               NaN
        frames beyond the length             not looked at
        ===================================  ==================  ===========

    References:
        Graves, Fernandez, Gomez, Schmidhuber: Connectionist Temporal Classification. ICML 2006, section 3.2.

    Example:
        >>> import torch, numbactc
        >>> log_probs = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1]]).log()
        >>> path = numbactc.greedy_decode(log_probs)[0]
        >>> print(path.tokens, path.times, f"{path.score:.4f}")  # 3 log 0.8 + log 0.6
        tensor([1, 1]) tensor([0, 3]) -1.1803
    """
    scores, frames, blank = _validation_decoding.check_utterances(log_probs, lengths, blank, batch_first)
    best = scores[: int(frames.max(initial=0))].max(dim=-1)
    values = best.values.to(torch.float64).T.contiguous().cpu().numpy()
    classes = best.indices.T.contiguous().cpu().numpy()
    return [_best_path(values[n, :length], classes[n, :length], blank) for n, length in enumerate(frames.tolist())]


def _best_path(values: np.ndarray, classes: np.ndarray, blank: int) -> BestPath:
    score = math.nan if (values == math.inf).any() else float(values.sum())
    begins = classes != blank
    begins[1:] &= classes[1:] != classes[:-1]
    if not math.isfinite(score):
        begins[:] = False
    return BestPath(torch.from_numpy(classes[begins]), torch.from_numpy(begins.nonzero()[0]), score)


def beam_search_decode(
    log_probs: Tensor,
    lengths: Lengths | None = None,
    beam_size: int = 100,
    n_best: int = 1,
    *,
    blank: int = 0,
    batch_first: bool = False,
    language_model: NgramLM | None = None,
    lm_weight: float = 0.5,
    token_bonus: float = 0.0,
    word_bonus: float = 0.0,
    lexicon: Lexicon | None = None,
    unknown_penalty: float | None = None,
    hotwords: Mapping[Sequence[int], float] | None = None,
    boundary: int | None = None,
    beam_threshold: float | None = None,
    token_threshold: float | None = None,
    rescore: bool = True,
) -> list[list[Hypothesis]]:
    r"""The most likely texts of each utterance, by prefix beam search.

    A text's probability is the sum over its paths: for scores s (T, C),

        P(text)  =  sum over paths of the text  prod over t of  exp(s[t, path[t]])

    where paths are the sequences of T classes that become the text once equal neighbours are merged and blanks removed.
    The search goes from frame to frame with the `beam_size` most likely beginnings of texts, and for each of them with
    the exact sum over those of its paths whose own beginnings were in the beam. A beginning that was dropped and comes
    back is the same as before. Nothing else is dropped unless a threshold is given: if the beam has room for all, the
    result is exact.

    What ranks texts, and beginnings of texts, is the score

        log P(text)  +  lm_weight * lm_score(text)  +  token_bonus * tokens  +  word_bonus * words
                     -  penalties of unknown words  +  bonuses of hotwords

    where a model of tokens counts with each token, a model of words with each word that ends; the last word ends with
    the text, and then `</s>` is scored. It is searched as exactly as the first term alone.

    Args:
        log_probs: (T, N, C), or (T, C) for a single utterance, float32, float64, bfloat16 or float16, with any strides:
            logarithms to base e, as from `log_softmax` over C. T frames, N utterances, C classes. The search runs on
            the CPU; scores on a GPU are copied there.
        lengths: (N,) frames of each utterance, from 0 to T: a list, tuple or tensor (int32, int64); None for T each.
        beam_size: how many beginnings are kept, at least 1.
        n_best: how many texts are returned for each utterance, from 1 to beam_size.
        blank: the class that stands for no token, from 0 to C - 1.
        batch_first: log_probs is (N, T, C). Nothing is copied for it.
        language_model: a `numbactc.NgramLM` of tokens, with labels for the C classes, or of words, with a lexicon.
        lm_weight: what its log-probabilities are multiplied by, at least 0.
        token_bonus: nats for each token; models of language like short texts.
        word_bonus: nats for each word; needs a lexicon.
        lexicon: a `numbactc.Lexicon`: texts consist of its words, with its boundary between them, before the first or
            after the last, once or more often. Without a boundary, a word ends where a token comes that begins words;
            such tokens must not be inside of words then. Of words spelled alike the language model's best counts, of
            equally good ones the first.
        unknown_penalty: nats, at least 0, by which a word that is not in the lexicon lowers the score, and 1/6 of it
            more for each token from the seventh; the language model sees `<unk>`. None: there are no such words.
        hotwords: a bonus in nats for each occurrence of a sequence of tokens. A beginning of one has a part of its
            bonus until it is clear that it does not go on. They count as whole words if there is a boundary.
        boundary: the token between words, for hotwords; None for that of the lexicon, if there is one.
        beam_threshold: nats, at least 0: drop beginnings that are less likely than the best one by more than this.
        token_threshold: nats: a class below this log-probability extends no text in that frame, unless it is the best.
        rescore: rank all texts of the last beam by their exact log-probabilities in the place of what the beam has
            found of them, which is less where scores are in doubt and the beam is small. False saves the time for it:
            `benchmarks/results/decode.md` has both.

    Returns:
        For each utterance, one for (T, C), its hypotheses with the best score first: at least one and at most n_best.
        There are fewer if the beam holds fewer, or if others in it end within a word that is none of the lexicon's.

    Raises:
        TypeError: an argument of another type or dtype.
        ValueError: an argument of another shape or out of range; the message names the utterance. Also bonuses that
            raise the score by more than 500 nats at a single token, all of them together.
        NotImplementedError: scores on another device than a CPU or an NVIDIA GPU.
        MemoryError: a beam that needs more than 2 GiB, as with millions of texts.

    Edge cases, each by utterance; neighbours never feel them:

        =============================================  ==========================================================
        case                                           hypotheses
        =============================================  ==========================================================
        no frames                                      the empty text; score and log_prob 0
        no path has a probability, as where a frame    the empty text alone; score and log_prob -inf
        is -inf throughout
        a score of NaN or +inf                         the empty text alone; score and log_prob NaN
        a beginning less likely than the best one by   dropped
        1e-200 (460 nats), or a token that lowers the
        score by more than 700 nats
        the beam holds no text that ends with a        those that end within one, scored as they are, without `</s>`
        word, and unknown words are forbidden
        frames beyond the length                       not read
        equally likely texts                           in an order that depends on nothing but the scores
        =============================================  ==========================================================

    Notes:
        Sums are in linear float64, rescaled by powers of two: about 1e-15 for each frame is lost, whatever the dtype of
        scores. The same input gives the same bits on every run, with any number of threads and in any batch.
        Utterances are shared among `torch.get_num_threads()` threads; any number of Python threads may call at once.

        A beam loses the mass of the paths that it drops. `log_prob` has it again: it is computed from all frames, over
        the tree of all texts, and so is `score` unless `rescore` is False. Memory grows with beam_size and with the
        length of the texts, not with T.

    References:
        Graves: Supervised Sequence Labelling with Recurrent Neural Networks. 2012, section 7.5.
        Hannun, Maas, Jurafsky, Ng: First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional
        Recurrent DNNs. 2014.

    Example:
        The best path is two blanks, with 0.36; but three paths, with 0.64, become [1] (Graves 2012, figure 7.6).

        >>> import math, torch, numbactc
        >>> log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
        >>> best, second = numbactc.beam_search_decode(log_probs, beam_size=10, n_best=2)[0]
        >>> print(best.tokens, f"{math.exp(best.log_prob):.2f}", second.tokens, f"{math.exp(second.log_prob):.2f}")
        tensor([1]) 0.64 tensor([], dtype=torch.int64) 0.36
        >>> numbactc.greedy_decode(log_probs)[0].tokens
        tensor([], dtype=torch.int64)

        A model that has learnt that b follows a, where the scores are in doubt between b and c:

        >>> labels = ["<blank>", "a", "b", "c"]
        >>> lm = numbactc.NgramLM.train(["ab", "abab", "ba"], 2, labels=labels, smoothing="witten-bell")
        >>> log_probs = torch.tensor([[0.1, 0.9, 0.0, 0.0], [0.1, 0.0, 0.4, 0.5]]).log()
        >>> texts = [numbactc.beam_search_decode(log_probs, language_model=model)[0][0].tokens for model in (None, lm)]
        >>> ["".join(labels[token] for token in tokens) for tokens in texts]
        ['ac', 'ab']
    """
    utterances = _validation_decoding.check_utterances(log_probs, lengths, blank, batch_first)
    beam_size = _validation_decoding.check_count("beam_size", beam_size)
    n_best = _validation_decoding.check_count("n_best", n_best, beam_size, "beam_size")
    pruning = _validation_decoding.check_pruning(beam_threshold, token_threshold)
    extras = _scoring.check_extras(
        utterances.scores.shape[2], utterances.blank, language_model, lm_weight, token_bonus, word_bonus, lexicon,
        unknown_penalty, hotwords, boundary,
    )  # fmt: skip
    on_cpu = utterances._replace(scores=utterances.scores.cpu())
    settings = _dispatch_beam.settings(on_cpu.blank, beam_size, pruning)
    kept = beam_size if rescore else n_best
    found = _dispatch_beam.search(on_cpu.scores, on_cpu.lengths, kept, settings, extras)
    return _hypotheses.of(found, on_cpu, n_best, rescore)
