"""What lies at a URL is told as it stands. Run: pytest tests/text/test_far_files.py"""

import sys
import zipfile

import pytest

from span_electra.data_config import TextConfig
from span_electra.errors import InputError
from span_electra.text.clean import read_block
from span_electra.text.corpus import cut_blocks
from span_electra.text.far_files import far_errors, find_far, is_url, without_keys
from span_electra.text.inputs import find_inputs

fsspec = pytest.importorskip("fsspec")
REGISTRY = sys.modules["fsspec.registry"]._registry


@pytest.fixture
def folder():
    system = fsspec.filesystem("memory")
    for name in ("b.txt", "a/c.txt", ".git/x.txt", "a/.y.txt"):
        system.pipe(f"memory://far/{name}", b"text\n")
    yield "memory://far"
    system.rm("/far", recursive=True)


def test_files_come_sorted_and_hidden_ones_aside(folder):
    found, hidden = find_far(folder)
    assert [file.url for file in found] == ["memory:///far/a/c.txt", "memory:///far/b.txt"]
    assert [file.size for file in found] == [5, 5] and not any(file.by_name for file in found)
    assert hidden == ["memory:///far/.git/x.txt", "memory:///far/a/.y.txt"]


@pytest.mark.parametrize("name", [".git", ".git/x.txt", ".git/*.txt"])
def test_what_is_named_is_not_hidden(folder, name):
    (found,), hidden = find_far(f"{folder}/{name}")
    assert found.url == "memory:///far/.git/x.txt" and not hidden
    assert found.by_name is (name == ".git/x.txt")


def test_a_changed_file_is_another(folder):
    ((before,), _) = find_far(f"{folder}/b.txt")
    fsspec.filesystem("memory").pipe("memory://far/b.txt", b"texts\n")
    ((after,), _) = find_far(f"{folder}/b.txt")
    assert after.identity != before.identity


def test_what_cannot_be_opened_is_named():
    with pytest.raises(InputError, match="nosuchscheme://a.*check the URL"):
        find_far("nosuchscheme://a/b.txt")
    assert is_url("s3://a/b") and not is_url("a/b.txt")


def test_whatever_a_file_system_raises_is_told_of_the_url(folder, monkeypatch):
    def forbidden(*_, **__):
        raise ClientError("403, message='Forbidden'")

    class ClientError(Exception):
        """As clients have them: of no kind that Python knows."""

    for name in ("find", "glob"):
        monkeypatch.setattr(fsspec.get_filesystem_class("memory"), name, forbidden)
    for url in (folder, f"{folder}/*.txt"):
        with pytest.raises(InputError, match="memory://far.*403, message='Forbidden'; check the URL"):
            find_far(url)


def read(url):
    """What is read at a URL, and the files' names as they are written down."""
    sources = []
    blocks = cut_blocks(find_inputs(url), 100, sources=sources)
    return b"".join(read_block(block, TextConfig()) for block in blocks), [source.path for source in sources]


@pytest.mark.parametrize("cache", ["", "simplecache::"])
@pytest.mark.parametrize("name, found", [("a.txt", "a"), ("*.txt", "ab"), ("in/c.txt", "c"), ("in/*", "c")])
def test_what_lies_in_an_archive_is_read_by_the_chain_that_leads_to_it(tmp_path, folder, cache, name, found):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for inside in ("a.txt", "b.txt", "in/c.txt"):
            archive.writestr(inside, f"text of {inside[-5]}\n")
    fsspec.filesystem("memory").pipe("/far/all.zip", (tmp_path / "all.zip").read_bytes())
    for rest in (f"::{tmp_path}/all.zip", f"::{cache}memory://far/all.zip"):
        text, paths = read(f"zip://{name}{rest}")
        assert text.decode() == "\n".join(f"text of {one}\n" for one in found)
        assert paths == [f"zip://{'in/' * (one == 'c')}{one}.txt{rest}" for one in found]
    text, paths = read("simplecache::memory://far/*.txt")
    assert (text, paths) == (b"text\n", ["simplecache::memory:///far/b.txt"])


@pytest.mark.parametrize("name", ["[1].txt", "what?.txt", "a b*.txt", "[1]/a.txt"])
def test_a_file_whose_name_looks_like_a_pattern_is_the_file(folder, name):
    system = fsspec.filesystem("memory")
    system.pipe(f"/far/odd/{name}", b"odd\n")
    assert read(f"memory://far/odd/{name}") == (b"odd\n", [f"memory:///far/odd/{name}"])
    assert read(f"memory://far/odd/{name.partition('/')[0]}")[0] == b"odd\n"
    with pytest.raises(InputError, match="check the URL"):
        read("memory://far/odd/[2].txt")


@pytest.fixture
def with_login(folder, monkeypatch):
    """A file system that leaves the host out of its own names, as those that log in to one do."""
    memory = fsspec.get_filesystem_class("memory")

    class Login(memory):
        protocol, cachable, seen = "sftp", False, []

        @classmethod
        def _strip_protocol(cls, path):
            cls.seen += [path] if "://" in path else []
            return "/" + path.partition("://")[2].partition("/")[2] if "://" in path else path.rstrip("/")

        @staticmethod
        def _get_kwargs_from_urls(path):
            return {}

    monkeypatch.setitem(REGISTRY, "sftp", Login)
    return Login


@pytest.mark.parametrize("name", ["far", "far/b.txt", "far/b*"])
def test_a_host_and_its_keys_open_the_files_found_there_and_are_not_written_down(with_login, name):
    text, paths = read(f"sftp://me:secret@host.org/{name}")
    assert b"text" in text and "sftp://host.org/far/b.txt" in paths and "secret" not in "".join(paths)
    assert "sftp://me:secret@host.org/far/b.txt" in with_login.seen  # by which it was opened


@pytest.mark.parametrize(
    "url, shown",
    [
        ("https://me:key@host.org/a.txt?sig=7#part", "https://host.org/a.txt"),
        ("https://host.org?sig=7", "https://host.org"),
        ("zip://a.txt::https://me:key@host.org/b.zip?sig=7", "zip://a.txt::https://host.org/b.zip"),
        ("simplecache::sftp://me:key@host.org:22/d/a@b?.txt", "simplecache::sftp://host.org:22/d/a@b?.txt"),
        ("github://org:repo@main/a.txt", "github://org:repo@main/a.txt"),  # no user's name
        ("s3://bucket/me@home/a?.txt", "s3://bucket/me@home/a?.txt"),
    ],
)
def test_keys_are_in_no_url_that_is_shown(url, shown):
    assert without_keys(url) == shown == without_keys(shown)
    with pytest.raises(InputError) as told, far_errors(url):
        raise ValueError(f"403, url='{url}'")
    assert str(told.value).startswith(f"{shown}: 403, url='{shown}'")


def test_a_url_that_was_signed_anew_is_the_same_file_and_another_query_another(folder, monkeypatch):
    memory = fsspec.get_filesystem_class("memory")

    class Signed(memory):
        protocol, cachable = "http", False

        @classmethod
        def _strip_protocol(cls, path):
            return path

        @staticmethod
        def _get_kwargs_from_urls(path):
            return {}

        def unstrip_protocol(self, name):
            return name

        def info(self, path):
            return super().info("/far/b.txt") | {"name": path, "ETag": "7"}

        def isfile(self, path):
            return True

        def open(self, path, *rest):
            return fsspec.filesystem("memory").open("/far/b.txt", *rest)

    monkeypatch.setitem(REGISTRY, "http", Signed)
    first, second = (find_inputs(f"http://host.org/b.txt?sig={number}").files[0] for number in (1, 2))
    assert first.path == second.path == "http://host.org/b.txt" and first.identity == second.identity
    both = [f"http://host.org/b.txt?id={number}" for number in (1, 2)]
    assert read(both) == (b"text\n\ntext\n", ["http://host.org/b.txt"] * 2)
