"""The stages: lines drawn or checked, training, evaluation, report.

    python ocr.py data --config conf/printed.yaml
    python ocr.py train --config conf/printed.yaml train.epochs=3
    torchrun --nproc-per-node 2 ocr.py train --config conf/printed.yaml
    python ocr.py evaluate --config conf/printed.yaml decode.methods=greedy
    python ocr.py report --config conf/printed.yaml
    python ocr.py train --config conf/printed.yaml --peer       # PyTorch's loss, to compare: data, train, evaluate

Each is safe to repeat; interrupted, training continues at the very batch.
"""

from __future__ import annotations

import settings
from common import evaluation, training
from settings import Config


def data(config: Config) -> None:
    """Draw lines where no folder is given; check them, and write manifests."""
    from check import prepare
    from draw import draw

    if not config.data.root:
        draw(config)
    prepare(config)


def train(config: Config) -> None:
    from learning import LineTrainer

    training.main(LineTrainer, config)


def evaluate(config: Config) -> None:
    from learning import LineEvaluation

    evaluation.evaluate(LineEvaluation(config.exp / "best.pt", config), config)


def report(config: Config) -> None:
    from pages import write_report

    print(write_report(config))
    print(f"pictures and tables: {config.exp / 'report.md'}")


STAGES = {"data": data, "train": train, "evaluate": evaluate, "report": report}


def main() -> None:
    parser = settings.argument_parser(__doc__, STAGES)
    parser.add_argument("--peer", action="store_true", help="the same with PyTorch's loss, as <name>-torch")
    args = parser.parse_intermixed_args()
    config = settings.load(args.config, args.overrides)
    STAGES[args.stage](settings.peer_of(config) if args.peer else config)


if __name__ == "__main__":
    main()
