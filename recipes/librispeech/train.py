"""Stage 2: train the acoustic model with numbactc's CTC loss on its logits.

    python train.py --config conf/mini.yaml model.hidden=320
    torchrun --nproc-per-node 4 train.py --config conf/train-960.yaml

Interrupted, it continues from exp/<name>/last.pt at the very batch; finished, it says so and stops. The budget is
``train.minutes`` of training (resumes add up), ``train.epochs``, ``train.steps``, or several; the learning rate follows
it. With epochs or steps, a CPU and the same number of threads, an interrupted run ends in the bits of one that was not.
With minutes it sees the same batches, in the same order and augmented in the same way, at learning rates that follow
the clock. Steps are the same, up to rounding, on any number of processes if processes * ``train.accumulate`` is.
"""

from __future__ import annotations

import config as configs
from common import training
from trainer import Trainer


def main() -> None:
    args = configs.argument_parser(__doc__).parse_args()
    training.main(Trainer, configs.load(args.config, args.overrides))


if __name__ == "__main__":
    main()
