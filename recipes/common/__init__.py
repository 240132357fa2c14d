"""What the recipes share: settings, batches, the training loop, checkpoints, decoding, error rates, the report.

Each recipe's folder has a link to this one, as Kaldi's have to their utilities: `python train.py` finds it there,
wherever it is started.
"""
