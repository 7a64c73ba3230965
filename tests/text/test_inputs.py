"""Laws of finding inputs: a fixed order, notes for what is passed over, refusals by name.

Run: pytest tests/text/test_inputs.py
"""

import gzip
import os

import pytest

from span_electra.errors import InputError
from span_electra.text.corpus import cut_blocks
from span_electra.text.inputs import find_inputs, suffixes_of


def test_folders_are_walked_in_order_without_hidden_files(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b.txt", ".git/x.txt", "a/.x.txt", "empty.txt", "index.tsv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("" if "empty" in name else f"{name}\n")
    inputs = find_inputs(tmp_path)
    names = [os.path.relpath(file.path, tmp_path) for file in inputs.files]
    assert names == ["b.txt", "a/b.txt", "a/z.txt"]
    notes = "\n".join(inputs.notes)
    assert "2 hidden" in notes and "empty.txt: empty" in notes and "no column 'text'" in notes
    globbed = find_inputs([tmp_path / "a" / "*.txt", str(tmp_path / "a" / "b.txt")])
    assert [os.path.basename(file.path) for file in globbed.files] == ["b.txt", "z.txt"]
    assert "named twice" in globbed.notes[0]
    (tmp_path / "t.csv").write_text("a,b\n")
    globbed = find_inputs(tmp_path / "*")  # passed over as in the folder, not refused
    assert [os.path.basename(file.path) for file in globbed.files] == ["b.txt", "z.txt", "b.txt"]
    assert "empty.txt: empty" in "".join(globbed.notes) and "t.csv: a table" in "".join(globbed.notes)


def test_a_vocabulary_beside_its_text_is_not_read_as_text(tmp_path):
    for name in ("a.txt", "my BPE-merges.txt", "my BERT-vocab.txt", "my BPE vocab.preview.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    inputs = find_inputs(tmp_path)
    assert [os.path.basename(file.path) for file in inputs.files] == ["a.txt"]
    names = ("BERT-vocab.txt", "BPE vocab.preview.txt", "BPE-merges.txt")
    listed = ", ".join(f"{tmp_path}/my {name}" for name in names)
    assert inputs.notes == (f"{listed}: of a vocabulary, not text; passed over",)


@pytest.mark.parametrize("pattern", ["**", "t*/**", "**/*", "texts*"])
def test_what_a_pattern_matches_at_every_level_is_read_and_told_once(tmp_path, pattern):
    for number in range(5):
        for name in (f"texts/{number}.txt", f"texts/in/deep/{number}.json", f"texts/in/{number}.txt"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
    inputs, whole = find_inputs(tmp_path / pattern), find_inputs(tmp_path)
    assert inputs.files == whole.files and inputs.notes == whole.notes
    assert len(inputs.files) == 10 and len(inputs.notes) == 1 and "and 2 more: one JSON" in inputs.notes[0]


def test_one_file_under_two_names_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    os.link(tmp_path / "a.txt", tmp_path / "twin.txt")
    inputs = find_inputs([tmp_path, f"{tmp_path}/../{tmp_path.name}/a.txt"])
    assert [os.path.basename(file.path) for file in inputs.files] == ["a.txt"]
    (note,) = inputs.notes
    assert note.endswith(
        f"twin.txt, {tmp_path}/../{tmp_path.name}/a.txt: the same file as {tmp_path}/a.txt, read once"
    )


def test_linked_folders_are_followed_and_loops_cut(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.txt").write_text("b\n")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("a\n")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (folder / "gone.txt").symlink_to(tmp_path / "nowhere")
    inputs = find_inputs(folder)
    assert [os.path.basename(file.path) for file in inputs.files] == ["a.txt", "b.txt"]
    notes = "\n".join(inputs.notes)
    assert "gone.txt: a link to nothing" in notes and "back: a link to a folder read already" in notes
    globbed = find_inputs(folder / "*.txt")
    assert len(globbed.files) == 1 and "gone.txt" in globbed.notes[0]


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.html", "t.XML.gz", "t.pdf", "t.tar.gz", "t.conllu"])
def test_what_is_structured_is_refused_by_name_and_never_read_as_text(name, tmp_path):
    (tmp_path / name).write_text("<p>x</p>\n")
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(InputError, match=f"{name}: "):
        find_inputs(tmp_path / name)
    (tmp_path / "a.txt").rename(tmp_path / ".a.txt")
    with pytest.raises(InputError, match=f"no text files there .*{name}: .*; passed over.; put some in"):
        find_inputs(tmp_path)
    (tmp_path / ".a.txt").rename(tmp_path / "a.txt")
    inputs = find_inputs(tmp_path)
    assert [os.path.basename(file.path) for file in inputs.files] == ["a.txt"]
    assert f"{name}: " in inputs.notes[0] and "passed over" in inputs.notes[0]


@pytest.mark.parametrize("query", ["", "?download=true", "?key=a.b/c.txt&s=1", "#part.txt"])
def test_what_follows_the_path_of_a_url_is_no_suffix(query):
    assert suffixes_of(f"https://host.org/a.JSONL.gz{query}") == (".jsonl", ".gz")
    assert suffixes_of("a?b.tsv") == (".tsv", "")  # a local name may hold any mark


def test_a_part_of_a_dump_is_marked_up_too_and_jsonlines_are_jsonl(tmp_path):
    dump = tmp_path / "wiki-pages-articles1.xml-p1p41242.bz2"
    dump.write_bytes(b"x")
    with pytest.raises(InputError, match="marked-up text"):
        find_inputs(dump)
    (tmp_path / "page.html-clean").write_text("x")
    assert find_inputs(tmp_path / "page.html-clean").files[0].kind == "text"
    (tmp_path / "a.jsonlines").write_text('{"text": "a"}\n')
    assert find_inputs(tmp_path / "a.jsonlines").files[0].kind == "jsonl"


def test_ndjson_is_jsonl(tmp_path):
    (tmp_path / "a.ndjson").write_text('{"text": "a"}\n')
    assert find_inputs(tmp_path / "a.ndjson").files[0].kind == "jsonl"


def test_missing_and_special_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("absent.txt", "No such file"), ("*.txt", "no file matches"), ("pipe", "regular")):
        with pytest.raises(InputError, match=message):
            find_inputs(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="no text files"):
        find_inputs(tmp_path / "folder")
    (tmp_path / "folder" / "table.csv").write_text("a,b\n")  # what is there says why it is not enough
    with pytest.raises(InputError, match="no text files there .*table.csv: a table; save it as"):
        find_inputs(tmp_path / "folder")
    with pytest.raises(InputError, match="nosuchscheme"):
        find_inputs("nosuchscheme://bucket/a.txt")


@pytest.fixture
def far():
    system = pytest.importorskip("fsspec").filesystem("memory")
    yield system
    system.rm("/inputs", recursive=True)


def test_a_url_is_walked_by_the_rules_of_a_folder(far):
    for name in ("a.txt", ".git/x.txt", "t.csv", "page.html", "empty.txt", "index.tsv", "f.arrow"):
        content = {"empty.txt": b"", "f.arrow": b"ARROW1\0\0" + b"\xff" * 8 + b"span_electra"}
        far.pipe(f"/inputs/{name}", content.get(name, b"text of it\n"))
    for url in ("memory://inputs", "memory://inputs/**"):
        inputs = find_inputs(url)
        assert [file.path for file in inputs.files] == ["memory:///inputs/a.txt"]
        notes = "\n".join(inputs.notes)
        for words in ("t.csv: a table", "page.html: marked-up", "empty.txt: empty", "index.tsv: no column"):
            assert words in notes
        assert "f.arrow: features" in notes and "1 hidden file or folder passed over" in notes
    with pytest.raises(InputError, match="memory://inputs/t.csv: a table"):
        find_inputs("memory://inputs/t.csv")
    far.rm("/inputs/a.txt")
    with pytest.raises(InputError, match="memory://inputs: no file with text there .*hidden.*check the URL"):
        find_inputs("memory://inputs")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_server_need_not_say_how_large_a_file_is(far, monkeypatch, name):
    text = b"a line\n" * 9
    far.pipe(f"/inputs/{name}", gzip.compress(text) if name.endswith("gz") else text)
    told = type(far).info
    monkeypatch.setattr(type(far), "info", lambda *args, **more: told(*args, **more) | {"size": None})
    inputs = find_inputs(f"memory://inputs/{name}")
    assert [file.size for file in inputs.files] == [0]
    # What is opened may still say it; only the listing does not.
    monkeypatch.undo()
    blocks = list(cut_blocks(inputs, 4))
    assert b"".join(piece.text for block in blocks for piece in block.pieces) == text
    assert all(block.consumed >= 0 for block in blocks)
