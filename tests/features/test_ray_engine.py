"""The Ray engine gives the local engine's bytes, on two nodes of which one is killed in the middle.

Needs the optional package ray; skipped without it. Run: pytest tests/features/test_ray_engine.py
"""

import gzip
import random

import pytest

from span_electra.data_config import ChunkConfig, MaskingConfig
from span_electra.errors import InputError
from span_electra.features import ray_engine
from span_electra.features.build import build_features
from span_electra.features.header import wanted_features
from span_electra.text.corpus import cut_blocks
from span_electra.text.inputs import find_inputs
from span_electra.text.vocabulary import SPECIAL_TOKENS, assemble

WORDS = [f"word{number}" for number in range(200)]
VOCABULARY = assemble("BERT", {token: number for number, token in enumerate([*SPECIAL_TOKENS, *WORDS])})


def build(text_file, out_file, engine):
    return build_features(
        text_file,
        VOCABULARY,
        out_file,
        wanted_features(VOCABULARY, ChunkConfig(max_seq_len=64), MaskingConfig(), chunk_size=100),
        engine=engine,
        progress=False,
    )


@pytest.fixture
def text_file(tmp_path):
    rng = random.Random(0)
    lines = [" ".join(rng.choices(WORDS, k=20)) for _ in range(6000)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    return tmp_path / "a.txt"


def test_without_ray_the_way_out_is_named(tmp_path, text_file, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match="ray is not installed; pip install ray"):
        build(text_file, tmp_path / "f.arrow", "ray")


def test_a_refused_text_comes_back_as_its_reason(text_file):
    text_file.write_bytes(b"ok\n\xff\n")
    (block,) = cut_blocks(find_inputs(text_file), 100)
    header = wanted_features(VOCABULARY, ChunkConfig(), MaskingConfig())
    assert "line 2 is not UTF-8" in ray_engine.make_part(header, block)


def test_a_relative_path_is_found_from_another_folder(tmp_path, text_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packed = tmp_path / "b.txt.gz"
    packed.write_bytes(gzip.compress(text_file.read_bytes()))
    blocks = list(cut_blocks(find_inputs(["a.txt", "b.txt.gz"]), 6000))
    header = wanted_features(VOCABULARY, ChunkConfig(), MaskingConfig())
    here = [ray_engine.make_part(header, block) for block in blocks]
    sent = [ray_engine.from_anywhere(block) for block in blocks]
    (tmp_path / "cluster").mkdir()
    monkeypatch.chdir(tmp_path / "cluster")
    (tmp_path / "cluster" / "a.txt").write_text("another text\n")
    for block, part in zip(sent, here, strict=True):
        assert ray_engine.make_part(header, block).batch.equals(part.batch)
    assert [block.pieces[0].path for block in blocks] == ["a.txt", "b.txt.gz"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_same_bytes_though_a_node_is_killed(tmp_path, text_file, monkeypatch):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    build(text_file, tmp_path / "local.arrow", "local")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    write, written = ray_engine.write_part, []

    def killing(*args):
        written.append(args)
        if len(written) == 15:
            cluster.remove_node(second, allow_graceful=False)
        write(*args)

    monkeypatch.setattr(ray_engine, "write_part", killing)
    try:
        build(text_file, tmp_path / "ray.arrow", "ray")
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert len(written) == 60
    assert (tmp_path / "ray.arrow").read_bytes() == (tmp_path / "local.arrow").read_bytes()
