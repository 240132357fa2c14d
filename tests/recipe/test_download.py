"""Downloads from a server on this machine that cuts connections, ignores ranges, serves wrong bytes."""

from __future__ import annotations

import hashlib
import http.server
import io
import random
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import download
from download import WrongContentError, extract, fetch

CONTENT = bytes(range(256)) * 8000  # 2 MB
SUM = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``, and misbehaves as told: each answer sends at most the next of ``cuts`` bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/x.tar.gz": CONTENT}
        self.cuts: list[int] = []
        self.errors: list[int] = []  # statuses to answer with, one each
        self.ranges = True
        self.asked: list[str | None] = []  # the Range of each request

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone away is nothing to print."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, asked = self.server, self.headers["Range"]
        server.asked.append(asked)
        content = server.files.get(self.path) if len(server.asked) < 30 else None  # nobody asks for ever
        if server.errors or content is None:
            self.send_error(server.errors.pop(0) if server.errors else 404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(content)
        self.wfile.write(content[start : start + cut])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: Server, path: Path, sha256: str = SUM) -> None:
    fetch(f"{server.url}/x.tar.gz", path, sha256, wait=0.0)


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    get(server, path)
    get(server, path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar.gz"]


def test_a_connection_that_is_cut_is_continued_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000, 500_000, 0, 7]
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-", "bytes=501000-", "bytes=501000-", "bytes=501007-"]


def test_a_download_of_an_earlier_day_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.partial").write_bytes(CONTENT[:123_456])
    get(server, tmp_path / "x")
    assert server.asked == ["bytes=123456-"]
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_starts_from_the_beginning(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "x.partial").write_bytes(b"?" * 1000)
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_what_was_complete_but_not_renamed_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.partial").write_bytes(CONTENT)
    get(server, tmp_path / "x")
    assert server.asked == [f"bytes={len(CONTENT)}-"]  # answered by 416
    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "partial", [b"?" * 1000, CONTENT + b"more", b"?" * len(CONTENT)], ids=["other", "long", "same"]
)
def test_a_partial_file_of_something_else_is_fetched_from_its_beginning(
    server: Server, tmp_path: Path, partial: bytes
) -> None:
    (tmp_path / "x.partial").write_bytes(partial)
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(partial)}-", None]


def test_a_wrong_byte_is_noticed_and_nothing_is_left(server: Server, tmp_path: Path) -> None:
    server.files["/x.tar.gz"] = CONTENT[:5000] + b"!" + CONTENT[5001:]
    with pytest.raises(WrongContentError, match=f"must have the SHA-256 sum {SUM}, got "):
        get(server, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    assert server.asked == [None]
    server.asked.clear()
    (tmp_path / "x.partial").write_bytes(CONTENT[:10])  # continued: perhaps that was wrong; but only once
    with pytest.raises(WrongContentError):
        get(server, tmp_path / "x")
    assert server.asked == ["bytes=10-", None]
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_a_wrong_sum_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"from elsewhere")
    get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_server_out_of_order_is_asked_again_and_a_missing_file_is_not(server: Server, tmp_path: Path) -> None:
    server.errors = [503, 500, 429]
    get(server, tmp_path / "x")
    assert len(server.asked) == 4
    with pytest.raises(OSError, match=r"nothing\.tar\.gz: HTTP Error 404"):
        fetch(f"{server.url}/nothing.tar.gz", tmp_path / "y", SUM, wait=0.0)
    assert len(server.asked) == 5


def test_no_new_byte_for_long_is_the_end(server: Server, tmp_path: Path) -> None:
    server.cuts = [10] + [0] * 9
    with pytest.raises(OSError, match="given up after 5 attempts without a new byte: the connection ended early"):
        get(server, tmp_path / "x")
    assert len(server.asked) == 6
    assert (tmp_path / "x.partial").read_bytes() == CONTENT[:10]  # for another day
    with pytest.raises(OSError, match="given up after 2 attempts"):
        fetch("http://127.0.0.1:9/x", tmp_path / "y", SUM, wait=0.0, attempts=2)


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info


SPEECH = {
    "LibriSpeech/SPEAKERS.TXT": b"7 | F",
    "LibriSpeech/dev-clean/7/1/7-1.trans.txt": b"7-1-0000 ONE",
    "LibriSpeech/dev-clean/7/1/7-1-0000.flac": b"sound",
}


def archive(path: Path, *more: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for info, content in [*((member(name, content), content) for name, content in SPEECH.items()), *more]:
            file.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../outside", tarfile.REGTYPE, ""),
        ("LibriSpeech/../../outside", tarfile.REGTYPE, ""),
        ("/tmp/outside", tarfile.REGTYPE, ""),
        ("outside", tarfile.REGTYPE, ""),
        ("LibriSpeech\\..\\..\\outside", tarfile.REGTYPE, ""),
        ("LibriSpeech/link", tarfile.SYMTYPE, "/etc"),
        ("LibriSpeech/link", tarfile.SYMTYPE, "../.."),
        ("LibriSpeech/link", tarfile.LNKTYPE, "../../outside"),
        ("LibriSpeech/link", tarfile.LNKTYPE, "LibriSpeech/SPEAKERS.TXT"),
        ("LibriSpeech/pipe", tarfile.FIFOTYPE, ""),
        ("LibriSpeech/disk", tarfile.BLKTYPE, ""),
    ],
)
def test_an_archive_that_tries_to_escape_is_refused_and_leaves_nothing(
    tmp_path: Path, name: str, kind: bytes, link: str
) -> None:
    root = tmp_path / "a" / "b"
    root.mkdir(parents=True)
    path = archive(root / "x.tar.gz", (member(name, b"", kind, link), b""))
    with pytest.raises(WrongContentError, match="an archive must hold"):
        extract(path, root, "dev-clean")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "x.tar.gz"]


def test_an_archive_is_unpacked_as_it_is_and_appears_when_it_is_complete(tmp_path: Path) -> None:
    extract(archive(tmp_path / "x.tar.gz"), tmp_path, "dev-clean")
    found = {str(p.relative_to(tmp_path)): p.read_bytes() for p in (tmp_path / "LibriSpeech").rglob("*") if p.is_file()}
    assert found == SPEECH
    assert sorted(p.name for p in tmp_path.iterdir()) == ["LibriSpeech", "x.tar.gz"]


def test_a_damaged_archive_or_one_of_another_subset_leaves_nothing(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz")
    with pytest.raises(WrongContentError, match="must hold LibriSpeech/dev-other"):
        extract(path, tmp_path, "dev-other")
    noise = random.Random(0).randbytes(100_000)
    archive(path, (member("LibriSpeech/dev-clean/7/1/7-1-0001.flac", noise), noise))
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(WrongContentError, match="cannot be unpacked"):
        extract(path, tmp_path, "dev-clean")
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar.gz"]


def test_a_python_without_filters_unpacks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(RuntimeError, match=r"Python must be 3\.12, 3\.11\.4, 3\.10\.12 or newer"):
        extract(archive(tmp_path / "x.tar.gz"), tmp_path, "dev-clean")
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar.gz"]


def test_the_command_downloads_the_subsets_that_are_not_there(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive(tmp_path / "made.tar.gz").read_bytes()
    server.files["/12/dev-clean.tar.gz"] = content
    monkeypatch.setitem(download.SUMS, "dev-clean", hashlib.sha256(content).hexdigest())
    root = tmp_path / "out"
    command = ["download.py", "--out", str(root), "--mirror", f"{server.url}/12", "--remove-archives"]
    overrides = ["data.train=dev-clean", "data.dev=dev-clean", "data.test=dev-clean"]
    for _ in range(2):
        monkeypatch.setattr("sys.argv", [*command, *overrides])
        download.main()
    assert server.asked == [None]
    assert (root / "LibriSpeech" / "dev-clean" / "7" / "1" / "7-1-0000.flac").read_bytes() == b"sound"
    assert [p.name for p in root.iterdir()] == ["LibriSpeech"]


def test_torchaudios_addresses_and_sums_are_taken() -> None:
    assert download.BASE.endswith("openslr.org/resources/12")
    assert sorted(download.SUMS) == [
        "dev-clean", "dev-other", "test-clean", "test-other", "train-clean-100", "train-clean-360", "train-other-500"
    ]  # fmt: skip
    assert {len(bytes.fromhex(sha256)) for sha256 in download.SUMS.values()} == {32}


def test_an_unknown_subset_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one of dev-clean, .*train-other-500, got 'train-clean-5'"):
        download.download("train-clean-5", tmp_path)


@pytest.mark.parametrize("more", [[], ["--config", "conf/demo.yaml", "--data", "."]], ids=["no config", "data"])
def test_the_script_downloads_only_what_a_configuration_names(tmp_path: Path, more: list[str]) -> None:
    script = Path(download.__file__).with_name("run.sh")
    command = ["bash", str(script), "--download", str(tmp_path / "out"), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--download needs a --config that names the subsets, and no --data" in done.stderr
    assert not (tmp_path / "out").exists()
