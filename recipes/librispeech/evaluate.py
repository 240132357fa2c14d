"""Stage 3: transcripts of the test sets by every method of ``decode.methods``, their WER and CER, the worst utterances.

Under exp/<name>/decode_<set>_<method>/: ref.trn, hyp.trn, errors.txt, result.json and, where weights were tuned,
tuning.json with everything that was tried. Under exp/<name>/lm/: the language models and tuned.json, for transcribe.py:
how wide the search was, and its weights: the best on all of dev, or those of the settings with decode.tune=false.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import config as configs
from common import evaluation
from common.scores import Scored, gathered, scored
from config import Config
from data import Batch, SpeechDataset
from manifest import Utterance, read_manifests
from recogniser import Recogniser


class Evaluation(evaluation.Evaluation[Utterance]):
    """Of the checkpoint at ``path``."""

    def __init__(self, path: Path, settings: Config) -> None:
        self.recogniser = Recogniser(path, settings.train.device)
        super().__init__(
            self.recogniser.content, self.recogniser.config, self.recogniser.tokens, settings, path.parent
        )

    def read(self, subsets: Sequence[str]) -> list[Utterance]:
        return read_manifests(self.recogniser.config, subsets)

    def score(self, utterances: list[Utterance]) -> Scored:
        """What cannot be read is said."""
        model, config, log_mel = self.recogniser.model, self.recogniser.config, self.recogniser.log_mel
        dataset = SpeechDataset(utterances, config, self.tokens, log_mel)

        def score(batch: Batch) -> tuple[Tensor, Tensor]:
            logits, input_lengths = model(*log_mel(batch.inputs, batch.lengths))
            return logits, input_lengths

        return gathered(scored(model, score, dataset, config.train.batch_seconds), utterances, len(self.tokens))


def evaluate(path: Path, settings: Config) -> list[dict[str, Any]]:
    """Every set of ``data.test`` by every method, results in that order."""
    return evaluation.evaluate(Evaluation(path, settings), settings)


def main() -> None:
    parser = configs.argument_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: exp/<name>/best.pt")
    args = parser.parse_args()
    config = configs.load(args.config, args.overrides)
    evaluate(args.checkpoint or config.exp / "best.pt", config)


if __name__ == "__main__":
    main()
