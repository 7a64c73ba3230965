"""What lies at a URL is told as it stands. Run: pytest tests/text/test_far_files.py"""

import pytest

from span_electra.errors import InputError
from span_electra.text.far_files import find_far, is_url

fsspec = pytest.importorskip("fsspec")


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
