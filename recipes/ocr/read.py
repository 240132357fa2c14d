"""Read images of single lines: text, how sure the model is of it, and where each character stands.

python read.py --checkpoint exp/printed/best.pt line.png
python read.py --checkpoint exp/printed/best.pt --method tokens --boxes boxes.png scans/*.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from common.decoders import METHODS
from images import read_image
from reader import Character, LineReader

RECIPE = Path(__file__).resolve().parent


def row(character: Character) -> str:
    """First and last column, confidence, and the character."""
    return f"{character.left:8.1f} {character.right:8.1f} {character.confidence:6.3f}  {character.text}"


def with_boxes(image: Image.Image, characters: list[Character]) -> Image.Image:
    """The image three times as large, each character's stretch framed, and the character above it."""
    scale, margin = 3, 16
    picture = Image.new("RGB", (image.width * scale, image.height * scale + margin), "white")
    picture.paste(image.resize((image.width * scale, image.height * scale)).convert("RGB"), (0, margin))
    pen = ImageDraw.Draw(picture)
    for character in characters:
        left, right = round(character.left * scale), round(character.right * scale) - 1
        pen.rectangle((left, margin, max(left, right), picture.height - 1), outline=(200, 60, 30))
        pen.text(((left + right) / 2, margin / 2), character.text, fill="black", anchor="mm", font_size=13)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = RECIPE / "exp" / "printed" / "best.pt"
    parser.add_argument("--checkpoint", type=Path, default=default, help="default: exp/printed/best.pt")
    parser.add_argument("--method", choices=[m for m in METHODS if m != "arpa"], default="greedy")
    parser.add_argument("--boxes", type=Path, help="write the (last) image with its characters framed here")
    parser.add_argument("images", nargs="+", type=Path)
    args = parser.parse_args()
    reader = LineReader(args.checkpoint, args.method)
    failed = False
    for path in args.images:
        try:
            image = read_image(path)
        except (OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
            continue
        text, confidence, characters = reader(image)
        print("\n".join([f"{path}: {text}", f"confidence {confidence:.3f}", *map(row, characters)]), flush=True)
        if args.boxes:
            with_boxes(image, characters).save(args.boxes)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
