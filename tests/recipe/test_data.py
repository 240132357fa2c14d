"""The dataset and its batches: from memory or from disk, with utterances that cannot be used."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from common.batches import collate, load
from common.tokens import Characters
from config import Config
from data import Batch, SpeechDataset, kept_in_memory
from features import LogMel
from manifest import Utterance, read_manifests
from prepare import prepare_subset
from tones import TEXTS, tones

Make = Callable[..., Config]
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def dataset(config: Config, training: bool = True) -> SpeechDataset:
    tokens, log_mel = Characters(config.data.alphabet), LogMel(config.features)
    utterances = read_manifests(config, ["train"])
    return SpeechDataset(utterances, config, tokens, log_mel, training, report=pytest.fail)


def prepared(config: Config) -> Config:
    prepare_subset("train", config)
    return config


def batches(data: SpeechDataset, epoch: int = 0) -> list[Batch]:
    data.epoch = epoch
    return list(load(data, [[0, 1, 2], [3, 4], [5, 6, 7]]))


def features(batch: Batch, config: Config) -> torch.Tensor:
    computed: torch.Tensor = LogMel(config.features)(batch.inputs, batch.lengths)[0]
    return computed


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_disk_are_those_from_memory(tiny: Make, workers: int) -> None:
    speeds = "data.speeds=[0.9,1.0,1.1]"
    config = prepared(tiny(speeds))
    memory, disk = dataset(config), dataset(tiny(speeds, "data.in_memory=false", f"data.workers={workers}"))
    assert memory.in_memory and not disk.in_memory
    for epoch in range(3):
        for a, b in zip(batches(memory, epoch), batches(disk, epoch), strict=True):
            torch.testing.assert_close(features(a, config), features(b, config), atol=1e-4, rtol=0)
            assert torch.equal(a.targets, b.targets) and torch.equal(a.target_lengths, b.target_lengths)
            assert (a.utterances, a.draws, a.reports) == (b.utterances, b.draws, b.reports)


@pytest.mark.parametrize("in_memory", ["true", "false"])
def test_a_batch_holds_each_utterance_padded_with_its_target(tiny: Make, in_memory: str) -> None:
    config = prepared(tiny(f"data.in_memory={in_memory}"))
    batch = batches(dataset(config))[0]
    assert [u.text for u in batch.utterances] == TEXTS[:3]
    tokens = Characters(config.data.alphabet)
    assert batch.targets.tolist() == [label for text in TEXTS[:3] for label in tokens.encode(text)]
    assert batch.target_lengths.tolist() == [len(text) for text in TEXTS[:3]]
    samples = [9600, 19200, 9600]
    assert batch.lengths.tolist() == ([n // 160 + 1 for n in samples] if in_memory == "true" else samples)
    assert batch.inputs[0, batch.lengths[0] :].eq(0).all()


def test_speeds_are_drawn_by_seed_epoch_and_utterance(tiny: Make) -> None:
    config = prepared(tiny("data.speeds=[0.9,1.0,1.1]"))

    def lengths(data: SpeechDataset, epochs: range) -> list[list[int]]:
        return [[n for b in batches(data, epoch) for n in b.lengths.tolist()] for epoch in epochs]

    data = dataset(config)
    drawn = lengths(data, range(12))
    assert lengths(data, range(7, 12)) == drawn[7:]
    assert {epoch[0] for epoch in drawn} == {9600 * 10 // speed // 160 + 1 for speed in (9, 10, 11)}
    assert len({tuple(epoch) for epoch in drawn}) > 10
    assert drawn[:3] == lengths(dataset(config), range(3))
    data.config.train.seed = 2
    assert lengths(data, range(3)) != drawn[:3]


def test_speeds_and_noise_are_of_training_only(tiny: Make, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    file = tmp_path / "noise" / "x.wav"
    soundfile.write(file, np.random.default_rng(0).standard_normal(16000) / 10, 16000)
    config = prepared(tiny("data.speeds=[0.9]", f"data.noise={file.parent}", "data.noise_share=1", "data.workers=0"))
    clean, noisy = dataset(config, training=False), dataset(config)
    assert clean.in_memory and not noisy.in_memory
    clean_lengths = [n for b in batches(clean) for n in b.lengths.tolist()]
    assert clean_lengths[0] == 9600 // 160 + 1
    with_noise, later = batches(noisy)[0].inputs, batches(noisy, 1)[0].inputs
    quiet = with_noise[0, 9000:]  # what was a pause
    assert quiet.std() > 5e-3
    assert torch.equal(with_noise, batches(noisy)[0].inputs)
    assert not torch.equal(with_noise, later)
    file.unlink()
    batch = batches(noisy)[0]
    assert len(batch.utterances) == 3  # heard without noise, and said so
    assert len(batch.reports) == 3 and batch.reports[0].startswith("no noise for ")


@pytest.mark.parametrize("in_memory", ["true", "false"])
def test_what_cannot_be_used_any_more_is_left_out_of_its_batch_and_reported_there(tiny: Make, in_memory: str) -> None:
    config = prepared(tiny(f"data.in_memory={in_memory}", "data.max_seconds=2", "data.workers=1"))
    paths = [Path(u.audio_filepath) for u in read_manifests(config, ["train"])]
    paths[0].unlink()
    paths[1].write_bytes(b"not audio")
    soundfile.write(paths[2], tones("TWO")[:1200], 16000)
    soundfile.write(paths[3], np.zeros(16000 * 4), 16000)
    soundfile.write(paths[6], tones("THREE"), 16000)  # another file, as good as the one before
    for epoch in range(2):
        first, second, third = batches(dataset(config), epoch)
        assert first.utterances == [] and first.draws == []
        assert first.lengths.shape == first.target_lengths.shape == first.targets.shape == (0,)
        assert [line.split(":")[0] for line in first.reports] == [f"left out {path}" for path in paths[:3]]
        assert "too short for its text (2 frames of scores, 6 needed)" in first.reports[2]
        assert [u.text for u in second.utterances] == ["FOUR ONE"]
        assert second.reports == [f"left out {paths[3]}: too long: 4.00 s, at most 2"]
        assert second.targets.tolist() == Characters(config.data.alphabet).encode("FOUR ONE")
        assert len(third.utterances) == 3 and third.reports == []


def test_tests_leave_out_only_what_cannot_be_read(tiny: Make) -> None:
    config = prepared(tiny("data.max_seconds=2"))
    paths = [Path(u.audio_filepath) for u in read_manifests(config, ["train"])]
    soundfile.write(paths[2], tones("TWO")[:1200], 16000)
    soundfile.write(paths[3], np.zeros(16000 * 4), 16000)
    paths[4].unlink()
    found = batches(dataset(config, training=False))
    assert [len(b.utterances) for b in found] == [3, 1, 3]
    assert [len(b.reports) for b in found] == [0, 1, 0]


def test_memory_is_chosen_by_the_size_of_the_features(tiny: Make) -> None:
    hour = [Utterance("x.flac", 36.0, "X", "7")] * 100
    config = tiny("features.n_mels=64", "data.memory_gb=0.0922")
    assert kept_in_memory(hour, config, [1.0])  # the documented 92 MB an hour
    assert not kept_in_memory(hour, config, [1.0, 1.1])
    assert not kept_in_memory([*hour, hour[0]], config, [1.0])
    assert kept_in_memory(hour, tiny("data.in_memory=true", "data.memory_gb=0"), [1.0])
    with pytest.raises(ValueError, match=r"data\.in_memory must be auto, true or false, got 'often'"):
        kept_in_memory(hour, tiny("data.in_memory=often"), [1.0])
    with pytest.raises(ValueError, match=r"data\.in_memory must be auto or false with data\.noise"):
        dataset(prepared(tiny("data.in_memory=true", "data.noise=somewhere")))


def test_reading_ahead_leaves_the_global_generator_alone(tiny: Make) -> None:
    config = prepared(tiny("data.in_memory=false", "data.workers=0"))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    batches(dataset(config))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_empty_batch_is_as_good_as_another_to_a_device() -> None:
    batch: Batch = collate([]).to(torch.device("cpu"))
    assert batch.utterances == [] and math.prod(batch.inputs.shape) == 0
