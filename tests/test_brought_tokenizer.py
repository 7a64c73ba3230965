"""A tokenizer that was brought along, the whole way: raw text, training, exports, fine-tuning, answers.

Run: pytest tests/test_brought_tokenizer.py
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from encode_examples import TEXT
from finetune_examples import settings_of, write_task
from own_tokenizer_examples import TOKENIZERS, write_folder
from task_examples import write
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from argument import JointTrainingConfig
from span_electra.config import NetworkConfig
from span_electra.finetuning.stage import finetune
from span_electra.inference.tasks import TaskPredictor
from span_electra.pretraining.stage import pretrain

KINDS = {"roberta": "modern", "bert": "modern", "unigram": "electra"}  # unigram: Metaspace and NFKC too


def trained(tokenizer, architecture):
    """Pretrain for a step on raw text, into run/."""
    write(Path(), "text/a.txt", "\n".join(TEXT * 12) + "\n")
    settings, sizes = JointTrainingConfig(), NetworkConfig(8, 1, 2, 8)
    model = {"architecture": architecture, "embedding_size": 8, "generator": sizes, "discriminator": sizes}
    data = {"raw_text_dir": "text", "tokenizer": str(tokenizer), "max_seq_len": 32, "train_batch_size": 4}
    settings = replace(
        settings,
        out_dir="run",
        model=replace(settings.model, **model),
        train_data=replace(settings.train_data, **data),
        training=replace(settings.training, max_steps=1, device="cpu"),
        workers=0,
    )
    assert pretrain(settings) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_as_it_was_and_gives_its_ids_everywhere(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, config, _ = TOKENIZERS[kind]
    own, folder = make(), tmp_path / "own"
    trained(write_folder(folder, own, config) / "tokenizer.json", KINDS[kind])
    as_it_was = json.loads((folder / "tokenizer.json").read_text())
    for part in ("generator", "discriminator"):
        exported = json.loads(Path(f"run/{part}/tokenizer.json").read_text())
        if as_it_was["post_processor"] is None:  # it put no special tokens round a text
            exported["post_processor"] = None
        assert exported == as_it_was
        settings = json.loads(Path(f"run/{part}/tokenizer_config.json").read_text())
        # But for the class: a special one would put rules of its own over tokenizer.json's.
        assert (config | {"tokenizer_class": "PreTrainedTokenizerFast"}).items() <= settings.items()

    tasks = {"whole": write_task(tmp_path, "SingleSenClassification", "whole")}
    tasks["words"] = write_task(tmp_path, "NER", "words")
    assert finetune(settings_of(tmp_path, tasks, encoder="run", out_dir="tuned", epochs=1)) == 0
    folders = ["run/generator", *(f"tuned/exported/{name}" for name in tasks)]
    lines = [line.replace("\n", " ") for line in TEXT]
    bare = Tokenizer.from_str(own.to_str())
    for place in folders:
        stock = AutoTokenizer.from_pretrained(place, local_files_only=True)
        for line in lines:
            assert (
                stock(line, add_special_tokens=False).input_ids
                == bare.encode(line, add_special_tokens=False).ids
            )
    words = stock("the cats sleep", return_offsets_mapping=True, add_special_tokens=False).offset_mapping
    # As Metaspace cuts words, the blank is the library's.
    assert kind == "unigram" or {"the cats sleep"[start:] for start, _ in words} >= {
        "the cats sleep",
        "cats sleep",
    }
    texts = ["the cats sleep", "a dog"]
    answers = TaskPredictor.from_folder("tuned", "cpu")(texts, ["whole", "words"])
    assert all(len(found) == len(texts) for found in answers.values())
    assert [len(answer.words) for answer in answers["words"]] == [3, 2]
