"""Stage 0 with --download: subsets of LibriSpeech that are not there yet, from openslr.org or a mirror of it.

    python download.py --out DIR --config conf/train-clean-100.yaml        the subsets that the configuration names
    python download.py --out DIR --subsets dev-clean test-clean

An archive is received into DIR, where an interrupted one is continued, compared with the SHA-256 sum that torchaudio
has of it, and unpacked into DIR/LibriSpeech/<subset>. That folder appears when it is complete; one that is there is
left alone. Archives are kept unless --remove-archives says otherwise.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

from torchaudio.datasets.librispeech import _CHECKSUMS as CHECKSUMS  # address to sum; no public name has them
from tqdm import tqdm

import config as configs

SUMS = {address.rpartition("/")[2].removesuffix(".tar.gz"): sha256 for address, sha256 in CHECKSUMS.items()}
BASE = next(iter(CHECKSUMS)).rpartition("/")[0]
FOLDER = "LibriSpeech"  # in each archive
BLOCK = 1 << 20  # bytes


class WrongContentError(Exception):
    """What was received is not what the sum says, or not what an archive of speech holds."""


def bar(total: int, description: str, initial: int = 0) -> tqdm[NoReturn]:
    return tqdm(total=total, initial=initial, desc=description, unit="B", unit_scale=True, leave=False)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file, bar(path.stat().st_size, f"verify {path.name}") as shown:
        while block := file.read(BLOCK):
            digest.update(block)
            shown.update(len(block))
    return digest.hexdigest()


def total_of(response: http.client.HTTPResponse) -> int | None:
    """Bytes of the whole file, where the server says."""
    if response.status == 206:
        size = (response.headers["Content-Range"] or "").rpartition("/")[2]
    else:
        size = response.headers["Content-Length"] or ""
    return int(size) if size.isdecimal() else None


def receive(url: str, partial: Path, timeout: float = 60.0) -> bool:
    """Continue ``partial``, or begin anew where the server does not continue it; whether all of it is there now.

    OSError or HTTPException where the connection does not come about or breaks; what has arrived is kept.
    """
    offset = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and offset:  # there is nothing behind what we have: it is complete, or too long
            if error.headers["Content-Range"] == f"bytes */{offset}":
                return True
            partial.unlink()
            raise OSError(f"{partial} is longer than the file, it begins anew") from None
        raise
    with response:
        continued = response.status == 206
        if continued and not (response.headers["Content-Range"] or "").startswith(f"bytes {offset}-"):
            raise OSError(f"{url} was asked for bytes from {offset}, got {response.headers['Content-Range']}")
        start = offset if continued else 0
        total = total_of(response)
        with partial.open("ab" if continued else "wb") as file, bar(total or 0, partial.stem, start) as shown:
            while block := response.read(BLOCK):
                file.write(block)
                shown.update(len(block))
            size = file.tell()
    # A connection that was cut looks like an end: only the length tells.
    return total is None or size == total


def fetch(url: str, path: Path, sha256: str, wait: float = 2.0, attempts: int = 5) -> None:
    """Put the file at ``url`` to ``path``, verified: it is there whole or not at all.

    Continues ``path``.partial; what has the wrong sum after being continued is fetched once more from its beginning.
    Waits between attempts grow by ``wait`` seconds.

    Raises:
        OSError: ``attempts`` in a row brought not one new byte, or the answer will not change, such as 404.
        WrongContentError: the file has another sum, and that not from being continued; nothing is left of it.
    """
    if path.exists():
        if sha256_of(path) == sha256:
            return
        tqdm.write(f"{path} has the wrong SHA-256 sum: fetching it again")
        path.unlink()
    partial = path.with_name(path.name + ".partial")
    failed, continued, again = 0, False, False
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        continued = continued or before > 0
        reason: Exception = OSError("the connection ended early")
        try:
            complete = receive(url, partial)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429):
                raise OSError(f"{url}: {error}") from None
            complete, reason = False, error
        if complete:
            if (found := sha256_of(partial)) == sha256:
                os.replace(partial, path)
                return
            partial.unlink()
            if again or not continued:
                raise WrongContentError(f"{url} must have the SHA-256 sum {sha256}, got {found}")
            tqdm.write(f"{url}: the continued file has the wrong SHA-256 sum, once more from its beginning")
            failed, again = 0, True
            continue
        failed = 0 if partial.exists() and partial.stat().st_size > before else failed + 1
        if failed == attempts:
            raise OSError(f"{url}: given up after {attempts} attempts without a new byte: {reason}") from reason
        tqdm.write(f"{url}: {reason}; trying again")
        time.sleep(wait * failed)


def speech_only(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """A filter for tarfile: LibriSpeech has plain files and folders, below LibriSpeech/; all else is refused."""
    if not (member.isfile() or member.isdir()):
        raise WrongContentError(f"an archive must hold plain files and folders, got the link or device {member.name!r}")
    parts = member.name.split("/")
    if parts[0] != FOLDER or ".." in parts or "\\" in member.name:
        raise WrongContentError(f"an archive must hold files below {FOLDER}/, got {member.name!r}")
    return tarfile.data_filter(member, folder)


def extract(archive: Path, root: Path, subset: str) -> None:
    """Unpack ``archive`` to root/LibriSpeech/subset, which appears when it is complete.

    Raises:
        RuntimeError: a Python whose tarfile has no filters yet.
        WrongContentError: a member that is no plain file or folder, or not below LibriSpeech/; a damaged archive, or
            one without the subset. Nothing is left of what was unpacked.
    """
    if not hasattr(tarfile, "data_filter"):
        release = sys.version.split()[0]
        raise RuntimeError(f"Python must be 3.12, 3.11.4, 3.10.12 or newer to unpack archives safely, got {release}")
    partial = root / f"{subset}.unpacking"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with (
            archive.open("rb") as file,
            tqdm.wrapattr(file, "read", archive.stat().st_size, desc=f"unpack {archive.name}", leave=False) as counted,
            tarfile.open(fileobj=cast(Any, counted), mode="r|gz") as content,
        ):
            content.extractall(partial, filter=speech_only)
        if not (partial / FOLDER / subset).is_dir():
            raise WrongContentError(f"{archive} must hold {FOLDER}/{subset}, got no such folder")
        (root / FOLDER).mkdir(exist_ok=True)
        for path in (partial / FOLDER).iterdir():  # SPEAKERS.TXT and its like are in each archive
            if path.is_file():
                os.replace(path, root / FOLDER / path.name)
        os.replace(partial / FOLDER / subset, root / FOLDER / subset)
    except (tarfile.TarError, EOFError) as error:
        raise WrongContentError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def download(
    subset: str, root: Path, base: str = BASE, sums: Mapping[str, str] = SUMS, wait: float = 2.0, keep: bool = True
) -> Path:
    """The folder of ``subset``, fetched and unpacked if it is not there; ValueError if none has its name."""
    folder = root / FOLDER / subset
    if folder.is_dir():
        return folder
    if subset not in sums:
        raise ValueError(f"a subset to download must be one of {', '.join(sorted(sums))}, got {subset!r}")
    root.mkdir(parents=True, exist_ok=True)
    archive = root / f"{subset}.tar.gz"
    fetch(f"{base.rstrip('/')}/{archive.name}", archive, sums[subset], wait)
    extract(archive, root, subset)
    if not keep:
        archive.unlink()
    return folder


def main() -> None:
    parser = configs.argument_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="LibriSpeech/ is made in it, beside the archives")
    parser.add_argument("--subsets", nargs="+", help=f"of {', '.join(sorted(SUMS))}; default: the configuration's")
    parser.add_argument("--mirror", default=BASE, help="where the archives lie; their sums stay torchaudio's")
    parser.add_argument("--remove-archives", action="store_true", help="once they are unpacked")
    args = parser.parse_args()
    config = configs.load(args.config, args.overrides)
    for subset in args.subsets or dict.fromkeys(config.data.train + config.data.dev + config.data.test):
        folder = download(subset, args.out, args.mirror, keep=not args.remove_archives)
        print(f"{subset}: {folder}")


if __name__ == "__main__":
    main()
