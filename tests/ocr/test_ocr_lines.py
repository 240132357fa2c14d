"""Images of lines: what is drawn, what a folder may hold, what is dropped, and what the model is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import digits
import printed
import texts
from check import prepare
from common.tokens import Characters
from draw import draw
from images import as_tensor, corners, distorted, perspective, pulled, read_image, scaled
from learning import LineDataset
from lines import labels_of, read_alphabet, read_manifests
from settings import Config

Make = Callable[..., Config]
FAMILIES = ["DejaVuSans", "STIXGeneral"]  # matplotlib's own


def striped(path: Path, columns: int = 60, rows: int = 20, mode: str = "L") -> None:
    """An image of black bars on white."""
    pixels = np.full((rows, columns), 255, np.uint8)
    pixels[4:16, 5:-5:4] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def test_no_image_of_a_digit_is_in_two_sets_and_writers_are_apart() -> None:
    sets = [digits.subset_of(k) for k in range(1797)]
    assert {name: sets.count(name) for name in ("train", "known", "dev", "test")} == {
        "train": 1121, "known": 124, "dev": 108, "test": 324,
    }  # fmt: skip
    for name in ("dev", "test"):  # a stretch of these has a margin at either end, where nothing is in any set
        for k in range(1, 1797):
            if (sets[k] == name) != (sets[k - 1] == name):
                assert "" in (sets[k], sets[k - 1])


def test_number_strings_have_1_to_12_digits_and_are_the_same_each_time() -> None:
    drawn = list(digits.lines("test", 60, seed=3))
    assert {len(text) for _, text, _ in drawn} >= {1, 12}
    assert max(len(text) for _, text, _ in drawn) == 12
    for (ours, text, _), (theirs, again, _) in zip(drawn, digits.lines("test", 60, seed=3), strict=True):
        assert text == again
        assert np.array_equal(ours, theirs)
    assert [text for _, text, _ in drawn] != [text for _, text, _ in digits.lines("known", 60, seed=3)]


def test_printed_lines_are_written_in_the_alphabet_and_in_their_fonts() -> None:
    drawn = list(printed.lines("train", 80, 1, FAMILIES))
    assert {source.partition("-")[0] for _, _, source in drawn} == set(FAMILIES)
    assert {c for _, text, _ in drawn for c in text} <= set(texts.ALPHABET)
    assert all(pixels.min() < 100 < 180 < pixels.max() for pixels, _, _ in drawn)
    few = sum(source == "STIXGeneral" for _, _, source in drawn)
    assert 25 < few < 55  # a family with one style is drawn as often as one with four
    with pytest.raises(ValueError, match="got 'Comic'"):
        printed.files_of(["Comic"])


def test_pages_of_the_manual_are_in_one_set_each() -> None:
    seen: dict[str, str] = {}
    for subset in texts.SETS:
        for page in texts.pages(subset):
            assert seen.setdefault(" ".join(page), subset) == subset
    assert set(seen.values()) == set(texts.SETS)


def test_a_font_of_training_may_not_be_in_a_test(tiny: Make) -> None:
    words = ["data.drawn=printed", "data.counts=2,2,2", "fonts.train=DejaVuSans", "fonts.dev=DejaVuSans"]
    with pytest.raises(ValueError, match=r"fonts\.dev must be none of fonts\.train, got DejaVuSans"):
        draw(tiny(*words))


def test_labels_come_with_tabs_or_spaces_and_other_line_ends(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffa.png one  two\r\n\r\nb c.png\tthree\n".encode())
    assert [label[:2] for label in labels_of(tmp_path)] == [("a.png", "one two"), ("b c.png", "three")]
    (tmp_path / "labels.tsv").write_text("a.png\tone\tfont A\n")
    assert labels_of(tmp_path) == [("a.png", "one", "font A")]
    with pytest.raises(FileNotFoundError, match=r"labels\.tsv or labels\.txt"):
        labels_of(tmp_path / "nowhere")


def test_what_cannot_be_used_is_reported_and_the_rest_is_kept_whatever_its_alphabet(tiny: Make, tmp_path: Path) -> None:
    root = tmp_path / "own"
    rows = []
    for subset in ("train", "dev", "test"):
        for name, text in [("good.png", "äöü"), ("deep/good.jpg", "ж中"), ("good.png", "äöü")]:
            striped(root / subset / name)
            rows.append(f"{name}\t{text}\n")
        (root / subset / "labels.tsv").write_text("".join(rows[-3:]), encoding="utf-8")
    more = ["gone.png\tä\n", "bad.png\tä\n", "empty.png\t\n", "wide.png\tä\n", "narrow.png\täöüжä\n"]
    (root / "train" / "labels.tsv").write_text("".join(rows[:3] + more), encoding="utf-8")
    (root / "train" / "bad.png").write_bytes(b"\x89PNG no more")
    striped(root / "train" / "empty.png")
    striped(root / "train" / "wide.png", 600)
    striped(root / "train" / "narrow.png", 8)
    striped(root / "train" / "unlisted.PNG")
    with (root / "test" / "labels.tsv").open("a", encoding="utf-8") as labels:
        labels.write("deep/good.jpg\tß\nnarrow.png\täöüжä\n")
    striped(root / "test" / "narrow.png", 8)
    config = tiny(f"data.root={root}", "data.max_columns=300")
    prepare(config)
    assert read_alphabet(config) == "äöüж中"
    assert [line.id for line in read_manifests(config, ["train"])] == ["good.png", "deep/good.jpg"]
    dropped = (config.manifests / "train.dropped.txt").read_text(encoding="utf-8")
    reasons = [row.partition(": ")[2].partition(" (")[0] for row in dropped.splitlines()]
    assert reasons == [
        "listed before", "no such image", "unreadable", "empty text", "too wide", "too narrow for its text", "no text",
    ]  # fmt: skip
    # a test set must not depend on the model
    assert [line.id for line in read_manifests(config, ["test"])] == ["good.png", "deep/good.jpg", "narrow.png"]
    assert "listed before" in (config.manifests / "test.dropped.txt").read_text(encoding="utf-8")
    more_frames = tiny(f"data.root={root}", "data.max_columns=300", "model.upsample=2")
    prepare(more_frames)
    assert [line.id for line in read_manifests(more_frames, ["train"])] == ["good.png", "deep/good.jpg", "narrow.png"]


def test_one_folder_of_lines_is_dealt_out_and_none_is_lost(tiny: Make, tmp_path: Path) -> None:
    root = tmp_path / "one"
    for k in range(20):
        striped(root / f"{k}.png")
    (root / "labels.txt").write_text("".join(f"{k}.png {k % 3}\n" for k in range(20)))
    config = tiny(f"data.root={root}")
    prepare(config)
    sets = [[line.id for line in read_manifests(config, [subset])] for subset in ("train", "dev", "test")]
    assert [len(names) for names in sets] == [16, 2, 2]
    assert len({name for names in sets for name in names}) == 20
    assert not (config.manifests / "train.dropped.txt").read_text()


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "LA", "I;16", "CMYK"])
def test_images_of_every_mode_are_read_in_grey(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode in ("I;16", "CMYK") else "x.png")
    if mode == "I;16":
        striped(tmp_path / "plain.png")
        grey = np.asarray(Image.open(tmp_path / "plain.png")).astype(np.uint16) * 257
        Image.fromarray(grey).save(path)
    else:
        striped(path, mode=mode)
    pixels = np.asarray(read_image(path))
    assert pixels.dtype == np.uint8
    assert pixels[10, 0] > 250
    assert pixels[10, 5] < 5


def test_light_contrast_and_colour_of_the_paper_hardly_matter() -> None:
    pixels, _, _ = next(digits.lines("train", 1, 1))
    plain = as_tensor(pixels)
    assert plain.shape == pixels.T.shape
    assert plain[0].abs().max() == 0  # the paper
    torch.testing.assert_close(as_tensor(255 - pixels), plain, atol=1e-6, rtol=0)
    assert (as_tensor((pixels // 2 + 20).astype(np.uint8)) - plain).abs().max() < 0.25


def test_scaling_keeps_the_proportions(tmp_path: Path) -> None:
    striped(tmp_path / "x.png", 60, 20)
    assert scaled(read_image(tmp_path / "x.png"), 32).shape == (32, 96)


def test_distortion_is_drawn_and_none_is_none() -> None:
    pixels, _, _ = next(digits.lines("train", 1, 2))
    first = distorted(pixels, np.random.default_rng(1), 1.0)
    assert np.array_equal(first, distorted(pixels, np.random.default_rng(1), 1.0))
    assert not np.array_equal(first, distorted(pixels, np.random.default_rng(2), 1.0))
    assert first.shape == pixels.shape
    assert distorted(pixels, np.random.default_rng(1), 0.0) is pixels


def test_perspective_takes_the_corners_where_they_are_seen() -> None:
    seen = corners(30, 200, np.random.default_rng(3), 1.0)
    a, b, c, d, e, f, g, h = perspective(30, 200, seen)
    for (x, y), (u, v) in zip([(0, 0), (200, 0), (200, 30), (0, 30)], seen, strict=True):
        scale = g * x + h * y + 1
        assert ((a * x + b * y + c) / scale, (d * x + e * y + f) / scale) == pytest.approx((u, v))


@pytest.mark.parametrize("shape", [(24, 80), (32, 31), (24, 1), (1, 40), (1, 1), (300, 3)])
def test_a_pulled_line_is_whole(shape: tuple[int, int]) -> None:
    view = perspective(*shape, corners(*shape, np.random.default_rng(4), 1.0))
    cells = pulled(*shape, view, np.random.default_rng(4), 0.05)
    covered, places = np.zeros(shape, int), dict[tuple[int, int], tuple[float, ...]]()
    for (left, upper, right, lower), quad in cells:
        covered[upper:lower, left:right] += 1
        for k, corner in enumerate([(left, upper), (left, lower), (right, lower), (right, upper)]):
            assert places.setdefault(corner, quad[2 * k : 2 * k + 2]) == quad[2 * k : 2 * k + 2]
    assert (covered == 1).all()
    still = pulled(*shape, view, np.random.default_rng(4), 0.0)
    a, b, c, d, e, f, g, h = view
    for (_, _, x, y), quad in still:  # without displacements it is the perspective
        scale = g * x + h * y + 1
        assert quad[4:6] == pytest.approx(((a * x + b * y + c) / scale, (d * x + e * y + f) / scale))
    pixels = np.random.default_rng(5).integers(0, 256, shape).astype(np.uint8)
    assert distorted(pixels, np.random.default_rng(6), 1.0, 0.05).shape == shape


def test_training_lines_are_distorted_anew_each_epoch_and_the_same_after_a_resume(tiny: Make) -> None:
    config = tiny("data.drawn=digits", "data.counts=3,1,1", "images.distort=1", "data.alphabet=0123456789")
    draw(config)
    prepare(config)
    lines, tokens = read_manifests(config, ["train"]), Characters(config.data.alphabet)

    def inputs(epoch: int, training: bool = True) -> torch.Tensor:
        dataset = LineDataset(lines, config, tokens, training=training)
        dataset.epoch = epoch
        found = dataset[0].inputs
        assert found is not None
        return found

    assert torch.equal(inputs(1), inputs(1))
    assert not torch.equal(inputs(1), inputs(2))
    assert torch.equal(inputs(1, training=False), inputs(2, training=False))
    Path(lines[1].image).unlink()
    (report,) = LineDataset(lines, config, tokens)[1].reports
    assert report.startswith(f"left out {lines[1].image}: ")
