"""Text + vocabulary -> the feature file: every block in a process of its own, joined in order meanwhile.

Blocks are independent streams and parts pure functions of them, so the file has the same bytes for any
number of processes, any order, and any number of restarts. Parts wait in `.<out_file>.parts/`, which goes
when the file stands.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from span_electra.counted import counted, few
from span_electra.errors import InputError
from span_electra.features.header import FeatureHeader
from span_electra.features.output import JoinedFile, check_place, join_shards, joined_file, staged
from span_electra.features.parts import (
    PartCounts,
    block_key,
    kept_counts,
    part_path,
    settings_key,
    writing_maker,
)
from span_electra.features.store import open_features
from span_electra.locks import locked
from span_electra.progress import Bar, say_notes
from span_electra.storage import PARTS, PARTS_LOCK, empty_parents_go, recover
from span_electra.text.clean import Replaced, read_block
from span_electra.text.corpus import Block, cut_blocks, hash_source
from span_electra.text.far_files import is_url, without_keys
from span_electra.text.inputs import Inputs, Source, find_inputs
from span_electra.text.unknown import WORTH_A_NOTE, unknown_note
from span_electra.text.vocabulary import Vocabulary
from span_electra.text.workers import cap_workers, run_tasks

WORTH_A_PROCESS = 2 << 20  # bytes of text; starting a process takes as long as encoding these


@dataclass(frozen=True)
class FeatureCounts:
    """What a feature file holds."""

    place: str  # its path, or what else to say of it
    header: FeatureHeader
    notes: tuple[str, ...] = ()  # what a person should hear of the text

    def __str__(self) -> str:
        header = self.header
        fill = header.tokens / max(1, header.rows * header.max_seq_len)  # of the longest row there may be
        return (
            f"features: {counted(header.content, 'token')} in, {counted(header.content, 'token')} out, "
            f"{counted(header.rows, 'chunk')}, {fill:.1%} full, {counted(header.masked, 'token')} hidden in "
            f"{counted(header.spans, 'span')} -> {self.place}"
        )


def build_features(
    inputs: str | Path | Iterable[str | Path],
    vocabulary: Vocabulary,
    out_file: str | Path,
    wanted: FeatureHeader,
    *,
    workers: int = 1,
    shards: int = 0,
    engine: str = "local",
    progress: bool = True,
    shown: str | None = None,
) -> FeatureCounts:
    """Make the features of all inputs together, or find that they are made already.

    Args:
        inputs: files, folders, globs, URLs or data sets; see inputs.py for the formats.
        out_file: the feature file, or its URL; a folder when `shards` is above 0. Features of ours are
            replaced, anything else is left alone.
        wanted: how the text is read, cut and masked, of this vocabulary; see `wanted_features`.
        workers: processes; no more than the machine has cores are started.
        engine: local, or ray: the blocks are worked on by a Ray cluster.
        progress: show a bar, notes and the summary.
        shown: what the summary says of a file whose path is of no use to anybody; none: its path, or URL.

    Raises InputError for bad input, a foreign file at out_file, or a process that died; finished blocks are
    then kept for the next time. Raises OSError when the disk is full.
    """
    assert engine in ("local", "ray")
    found = find_inputs(inputs, wanted.text_field)
    # By our own writing, which is whole or not at all; a file system of a library would copy once more.
    target = str(out_file).removeprefix("file://")
    # The place where it is built goes again.
    shown = shown or (without_keys(target) if is_url(target) else None)
    job = _Job(found, wanted, vocabulary, workers, shards=shards, engine=engine, aloud=progress, shown=shown)
    job.note(*found.notes)
    if is_url(target):
        with staged(target, shards) as local:
            return _build(job, local)
    if Path(target).is_symlink():  # it stays, and leads to the new file: on another disk, where there is room
        return _build(replace(job, shown=shown or target), Path(os.path.realpath(target)))
    return _build(job, Path(target))


@dataclass(frozen=True)
class _Job:
    """What is to be made, and how."""

    found: Inputs
    header: FeatureHeader  # sources and counts are still to come
    vocabulary: Vocabulary
    workers: int
    shards: int
    engine: str
    aloud: bool
    shown: str | None = None

    def say(self, line: str) -> None:
        if self.aloud:
            print(line)

    def note(self, *notes: str) -> None:
        if self.aloud:
            say_notes(*notes)


def _build(job: _Job, out_file: Path) -> FeatureCounts:
    check_place(out_file, job.shards)
    # Before anything is locked or made: a second command with the same settings leaves no trace.
    done = _already_made(job, out_file)
    if done:
        _remove_left_parts(out_file)
        job.say(f"{done}\nfeatures: made already, from the same text with the same settings; nothing to do")
        return done
    if out_file.exists():
        job.note(f"{out_file}: features of other text or settings; will be replaced when the new are whole")
    files, size = len(job.found.files), job.found.size
    job.say(f"features: {counted(files, 'file')}" + (f", {size / 1e6:,.1f} MB of text" if size else ""))
    with _parts_folder(out_file) as folder:
        header, made = _make_and_join(job, out_file, folder)
        _remove_parts(folder)
    total, notes = made.total, _text_notes(job, made, header)
    result = FeatureCounts(job.shown or str(out_file), header, notes)
    if total.fallback:
        job.note(f"the tokenizer library did all the work, more slowly: {total.fallback}")
    if kept := sum(part.kept for part in made.finished):
        job.note(f"{kept} of {len(made.finished)} blocks were finished before and kept")
    job.say(str(result))
    job.note(*notes)
    if not header.masked:
        longest, ratio = header.max_seq_len - 2, header.masking.mask_ratio
        job.note(
            f"no token is hidden: {ratio:g} of rows of at most {longest} tokens of text rounds to none; "
            "nothing can be learned from them. Raise --mask_ratio or --max_seq_len"
        )
    return result


def _text_notes(job: _Job, made: _Parts, header: FeatureHeader) -> tuple[str, ...]:
    """What was lost of the text, and what in it is read otherwise than it looks."""
    total, notes = made.total, [*made.replaced.notes()]
    if total.lost > WORTH_A_NOTE * total.characters:
        sample = read_block(made.least_known, header.reading)
        notes.append(unknown_note(job.vocabulary, total.lost, total.characters, sample))
    if total.special:
        names = ", ".join(job.vocabulary.special.framing)
        notes.append(
            f"special tokens that the text spells out ({names}): {total.special:,}; they are not hidden"
        )
    return tuple(notes)


def _make_and_join(job: _Job, out_file: Path, folder: Path) -> tuple[FeatureHeader, _Parts]:
    """Make the parts, and the output of them; return its header.

    A file grows while parts are made; shards must know first how many rows there are in all.
    """
    # Hashes are known when the files have been read; zeros hold their room in the header until then.
    unread = tuple(Source(file.path, file.size, "0" * 64) for file in job.found.files)
    room = replace(job.header, sources=unread)
    with nullcontext() if job.shards else joined_file(folder, room, out_file) as joined:
        made = _make_parts(job, folder, joined)
        total = made.total
        header = replace(job.header, sources=made.sources, **total.of_header)
        # Before the file gets its place: features without a row would fail far from here, in training.
        _refuse_few_rows(job, total, folder)
        if joined is not None:
            written = joined.finish(header)
        else:
            parts = [(part.key, part.counts.rows) for part in made.finished]
            written = join_shards(folder, parts, header, out_file, job.shards)
        # Counted anew from the rows that were written: what the encoder gave is what the file holds.
        assert written.tokens - 2 * written.rows == total.encoded, "tokens were lost or doubled"
        assert written.of_header == total.of_header
    return header, made


def _refuse_few_rows(job: _Job, total: PartCounts, folder: Path) -> None:
    if not total.encoded:
        _remove_parts(folder)
        names = few([file.path for file in job.found.files])
        raise InputError(f"{names}: no text in it; name others")
    if total.rows < job.shards:
        _remove_parts(folder)
        raise InputError(f"shards: {job.shards} are more than {counted(total.rows, 'row')}; ask for fewer")


# --- parts --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Finished:
    """A part on disk."""

    counts: PartCounts
    key: str
    kept: bool  # from an earlier command


@dataclass(frozen=True)
class _Parts:
    """All parts of an output."""

    finished: list[_Finished]  # by block
    sources: tuple[Source, ...]
    least_known: Block | None  # the block of which most is unknown; none: of none is anything
    replaced: Replaced

    @property
    def total(self) -> PartCounts:
        """What all parts hold together."""
        return sum((part.counts for part in self.finished), PartCounts())


def _make_parts(job: _Job, folder: Path, joined: JoinedFile | None) -> _Parts:
    """Make the parts that are not there yet, and join what can be joined."""
    finished: dict[int, _Finished] = {}
    sources: list[Source] = []
    most_lost, least_known = 0, None
    found, header, replaced = job.found, job.header, Replaced(job.header.reading)
    identities = {file.path: file.identity for file in found.files}
    settings = settings_key(header)
    with Bar("features", found.size, job.aloud) as bar:

        def add(block: Block, part: _Finished) -> None:
            nonlocal most_lost, least_known
            finished[block.number] = part
            # The one block is kept, for text that came from far would have to be fetched again.
            if part.counts.lost > most_lost:
                most_lost, least_known = part.counts.lost, block
            replaced.add(block, part.counts.replaced)
            # Parts come in any order and are joined in theirs: the file has the same bytes each time.
            while joined is not None and joined.parts in finished:
                joined.append(finished[joined.parts].key)
            bar.done(block.consumed, part.counts.encoded)

        def missing() -> Iterator[tuple[Block, str]]:
            for block in cut_blocks(found, header.chunk_size, sources):
                key = block_key(settings, block, identities)
                kept = kept_counts(part_path(folder, block.number), key)
                if kept is None:
                    yield block, key
                else:
                    add(block, _Finished(kept, key, kept=True))

        # Blocks are cut as they are asked for, so that text waits in files and not in memory.
        for (block, key), made in _run(job, folder, missing()):
            add(block, _Finished(made, key, kept=False))
    # A file that grew meanwhile would have blocks of two versions, and a hash of neither.
    for file in found.files:
        if not file.remote and find_inputs(file.path).files[0].identity != file.identity:
            raise InputError(f"{file.path}: was changed while it was read; run again")
    in_order = [finished[number] for number in range(len(finished))]
    return _Parts(in_order, tuple(sources), least_known, replaced)


def _run(
    job: _Job, folder: Path, tasks: Iterator[tuple[Block, str]]
) -> Iterator[tuple[tuple[Block, str], PartCounts]]:
    if job.engine == "ray":
        from span_electra.features.ray_engine import run_on_ray

        return run_on_ray(job.header, folder, tasks)
    # Small texts are encoded sooner than a second process starts; a stream need not say how large it is.
    workers, note = cap_workers(job.workers)
    if note:
        job.note(note)
    if all(file.size for file in job.found.files):
        workers = min(workers, 1 + job.found.size // WORTH_A_PROCESS)
    return run_tasks(writing_maker, (job.header, job.vocabulary, folder), tasks, workers)


def _parts_place(out_file: Path) -> Path:
    return out_file.with_name(f".{out_file.name}{PARTS}")  # hidden: whoever reads text there passes over it


@contextmanager
def _parts_folder(out_file: Path) -> Iterator[Path]:
    """The folder of parts, locked: a second command for the same output is refused.

    Raises InputError when the folder cannot be made.
    """
    folder = _parts_place(out_file)
    busy = "another command is making it (process {holder}); wait for that one"
    # Folders that we make for nothing, because the text is refused, go again.
    with empty_parents_go(folder), locked(folder / PARTS_LOCK, out_file, busy):
        recover(out_file)
        try:
            yield folder
        finally:
            if folder.is_dir() and os.listdir(folder) == [PARTS_LOCK]:  # no block was finished
                _remove_parts(folder)


def _remove_left_parts(out_file: Path) -> None:
    """Remove the parts of finished features, whose command was killed before it did; busy ones stay."""
    if _parts_place(out_file).is_dir():
        with suppress(InputError), _parts_folder(out_file) as folder:
            _remove_parts(folder)


def _remove_parts(folder: Path) -> None:
    # A worker whose command was killed may just have finished a part. It does no harm there.
    shutil.rmtree(folder, ignore_errors=True)


def _already_made(job: _Job, out_file: Path) -> FeatureCounts | None:
    """The summary of features that stand there whole, made from this text with these settings."""
    if not out_file.exists():
        return None
    files = job.found.files
    # The cheap questions first: reading every bit of the features, and of the text, comes last.
    try:
        features = open_features(out_file, verify=False)
        made = features.header
        # What is of an earlier format is left as it is: runs may be going on from it.
        wanted = replace(job.header, masking=replace(job.header.masking, format=made.format))
        if (job.shards and len(features.files) != job.shards) or settings_key(made) != settings_key(wanted):
            return None
        if [(each.path, each.size) for each in made.sources] != [(file.path, file.size) for file in files]:
            return None
        open_features(out_file)
    except InputError:
        return None  # damaged, or of another format: made anew
    if [source.sha256 for source in made.sources] != [hash_source(file, made.text_field) for file in files]:
        return None
    if made.format != job.header.format:
        job.note(
            f"{out_file}: is of format {made.format}, of an earlier version, and keeps its masks; remove it "
            f"to have it made in format {job.header.format}"
        )
    return FeatureCounts(job.shown or str(out_file), made)
