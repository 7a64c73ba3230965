"""Clients of what this pipeline makes, tried one by one: each does what its users do with a model or a file.

Reads an exported run and a feature file. Prints a row of Markdown: the client, its version, what was done,
what came out; exits with 1 where that is not what should have. Run by benchmarks/clients.sh, which gives each
client an environment of its own.

    python benchmarks/clients.py peft runs/tiny features/train.arrow
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import tempfile
from pathlib import Path

TEXTS = ["the function returns a list", "a list of words is returned", "the film was good", "it was bad"]
LABELS = [0, 0, 1, 1]
STEPS = 30


def expect(holds: bool, what: str) -> None:
    """End with a sentence where something did not come out as it should."""
    if not holds:
        raise SystemExit(f"FAILED: {what}")


def token_states(folder: Path, texts: list[str]) -> list:
    """transformers' own hidden states of each text's tokens, float32 [L, D]."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy() for text in texts]


# --- models -------------------------------------------------------------------------------------------


def classifier_of(folder: Path) -> object:
    """The discriminator with a classifier of two classes made anew, as its card says."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(set(LABELS)), ignore_mismatched_sizes=True
    )
    # A ModernBERT's own tells original from replaced; of an ELECTRA a whole head is new already.
    if isinstance(model.classifier, torch.nn.Linear):
        model.classifier.reset_parameters()
    return model


def trainer(run: Path, _: Path) -> str:
    """Trainer fine-tunes the discriminator on two classes; what it saves answers as what it held."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    folder = run / "discriminator"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), classifier_of(folder)
    rows = [{**tokenizer(text), "labels": label} for text, label in zip(TEXTS, LABELS, strict=True)] * 4
    with tempfile.TemporaryDirectory() as place:
        settings = TrainingArguments(
            place, max_steps=STEPS, learning_rate=1e-3, report_to=[], use_cpu=True, save_strategy="no",
            disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        task = Trainer(model, settings, train_dataset=rows, processing_class=tokenizer)
        before = task.evaluate(rows)["eval_loss"]
        task.train()
        after = task.evaluate(rows)["eval_loss"]
        task.save_model(place)
        again = AutoModelForSequenceClassification.from_pretrained(place).eval()
        batch = tokenizer(TEXTS, return_tensors="pt", padding=True)
        with torch.no_grad():
            gap = (model.eval()(**batch).logits - again(**batch).logits).abs().max().item()
    expect(after < before < 1 and gap < 1e-6, f"loss {before:.3f} to {after:.3f}, saved logits {gap:.1e} off")
    return (
        f"{STEPS} steps on two classes: loss {before:.3f} to {after:.3f}; saved and opened: the same logits"
    )


def pipelines(run: Path, _: Path) -> str:
    """The fill-mask pipeline on the generator, feature-extraction on the discriminator."""
    from transformers import pipeline

    fill = pipeline("fill-mask", model=str(run / "generator"))
    found = fill(f"the {fill.tokenizer.mask_token} of the")
    states = pipeline("feature-extraction", model=str(run / "discriminator"))("a list of words")
    expect(len(found) == 5 and len(states[0]) >= 3, "five fillings and a state a token")
    return (
        f"fill-mask: five fillings, the first {found[0]['token_str'].strip()!r}; feature-extraction: states"
    )


def sentence_transformers(run: Path, _: Path) -> str:
    """Mean pooling over the discriminator, on a padded batch."""
    import numpy as np
    from sentence_transformers import SentenceTransformer, models

    word = models.Transformer(str(run / "discriminator"))
    pooling = models.Pooling(word.get_word_embedding_dimension())
    vectors = SentenceTransformer(modules=[word, pooling], device="cpu").encode(TEXTS)
    wanted = np.stack([states_LD.mean(0) for states_LD in token_states(run / "discriminator", TEXTS)])
    gap = float(np.abs(vectors - wanted).max())
    expect(gap < 1e-4, f"vectors {gap:.1e} off the mean of the states")
    return f"mean pooling, a padded batch: vectors of {vectors.shape[1]}, the mean of the states within 1e-4"


def setfit(run: Path, _: Path) -> str:
    """Few-shot classification from eight sentences."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, models
    from setfit import SetFitModel, Trainer, TrainingArguments

    word = models.Transformer(str(run / "discriminator"))
    pooling = models.Pooling(word.get_word_embedding_dimension())
    with tempfile.TemporaryDirectory() as folder:
        SentenceTransformer(modules=[word, pooling], device="cpu").save(folder)
        model = SetFitModel.from_pretrained(folder)
        settings = TrainingArguments(folder, batch_size=4, max_steps=STEPS, report_to="none")
        rows = Dataset.from_dict({"text": TEXTS, "label": LABELS})
        Trainer(model, settings, train_dataset=rows).train()
        right = int((model.predict(TEXTS).numpy() == LABELS).sum())
    expect(right >= 3, f"{right} of {len(TEXTS)} training sentences right")
    return f"{STEPS} contrastive steps, then its classifier: {right} of {len(TEXTS)} training sentences right"


def spacy_transformers(run: Path, _: Path) -> str:
    """A spaCy pipeline whose transformer is the discriminator."""
    import spacy
    import transformers

    nlp = spacy.blank("en")
    model = {
        "@architectures": "spacy-transformers.TransformerModel.v3",
        "name": str(run / "discriminator"),
        "get_spans": {"@span_getters": "spacy-transformers.doc_spans.v1"},
        "tokenizer_config": {"use_fast": True},
        "transformer_config": {},
        "mixed_precision": False,
        "grad_scaler_config": {},
    }
    nlp.add_pipe("transformer", config={"model": model})
    nlp.initialize()
    doc = nlp(TEXTS[0])
    states, ids = doc._.trf_data.model_output.last_hidden_state, doc._.trf_data.wordpieces.input_ids[0]
    expected = ids_of(run, TEXTS[0])
    expect(ids.tolist() == expected, f"ids {ids.tolist()}, ours are {expected}")
    return (
        f"a pipe in `spacy.blank('en')` with transformers {transformers.__version__}: our ids, "
        f"states {tuple(states.shape)}"
    )


def ids_of(run: Path, text: str) -> list[int]:
    """Our own ids of a text, from the exported tokenizer.json alone."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(run / "discriminator" / "tokenizer.json")).encode(text).ids


def onnx(run: Path, _: Path) -> str:
    """The discriminator as ONNX, any batch and length, run by onnxruntime."""
    import numpy as np
    import onnxruntime
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run / "discriminator")
    model = AutoModel.from_pretrained(run / "discriminator", attn_implementation="eager").eval()
    batch = tokenizer(TEXTS[:2], return_tensors="pt", padding=True)
    names = ["input_ids", "attention_mask"]
    size = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=128)}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder, "model.onnx")
        torch.onnx.export(
            model, kwargs={name: batch[name] for name in names}, f=path, input_names=names,
            output_names=["states"], dynamo=True, dynamic_shapes={name: size for name in names},
        )  # fmt: skip
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        other = tokenizer(TEXTS, return_tensors="pt", padding=True)
        found = session.run(["states"], {name: other[name].numpy() for name in names})[0]
        wanted = model(**{name: other[name] for name in names}).last_hidden_state.numpy()
    real = other["attention_mask"].numpy().astype(bool)
    gap = float(np.abs(found - wanted)[real].max())
    expect(gap < 1e-4, f"states {gap:.1e} off")
    return "`torch.onnx.export`, then another batch: states within 1e-4 of PyTorch's"


def peft(run: Path, _: Path) -> str:
    """LoRA on the attention's projections, trained, saved and put onto a fresh model."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoTokenizer

    folder = run / "discriminator"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    base = classifier_of(folder)
    head = {name: value.clone() for name, value in base.state_dict().items() if "classifier" in name}
    names = {name.rpartition(".")[2] for name, module in base.named_modules() if is_projection(name, module)}
    model = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=4, target_modules=sorted(names)))
    batch = tokenizer(TEXTS, return_tensors="pt", padding=True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    model.eval()  # without dropout, so that the loss must fall
    losses = []
    for _ in range(STEPS):
        loss = model(**batch, labels=torch.tensor(LABELS)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    with tempfile.TemporaryDirectory() as place, torch.no_grad():
        model.save_pretrained(place)
        fresh = classifier_of(folder)
        fresh.load_state_dict(head, strict=False)
        again = PeftModel.from_pretrained(fresh, place).eval()
        gap = (model(**batch).logits - again(**batch).logits).abs().max().item()
    learns = sum(p.numel() for p in model.parameters() if p.requires_grad)
    share = learns / sum(p.numel() for p in model.parameters())
    fell = f"loss {losses[0]:.3f} to {losses[-1]:.3f}"
    expect(losses[-1] < losses[0] < 1 and gap < 1e-5, f"{fell}, {gap:.1e} off")
    return f"LoRA of rank 4, {share:.1%} of the weights: {fell}; saved and put onto a fresh model"


def is_projection(name: str, module: object) -> bool:
    """Query and value projections, or where they are one matrix, that."""
    return type(module).__name__ == "Linear" and name.rpartition(".")[2] in ("query", "value", "Wqkv")


def minicons(run: Path, _: Path) -> str:
    """Pseudo-log-likelihoods of the generator, against evaluate_SE.py's."""
    import numpy as np
    from minicons import scorer

    from span_electra.evaluation.minimal_pairs import score_sentences
    from span_electra.hub.networks import open_networks

    model = scorer.MaskedLMScorer(str(run / "generator"), "cpu")
    found = model.sequence_score(TEXTS, reduction=lambda x: x.sum(0).item(), PLL_metric="original")
    wanted = score_sentences(open_networks(run, "cpu"), TEXTS, ["pll"])["pll"]
    gap = float(np.abs(np.array(found) - wanted).max())
    expect(gap < 1e-3, f"scores {gap:.1e} off")
    return f"`MaskedLMScorer`: within 1e-3 of `evaluate_SE.py --scores pll` (first {found[0]:.3f})"


# --- feature files ------------------------------------------------------------------------------------


def counts_of(features: Path) -> tuple[int, int]:
    """Rows and tokens as create_feature_SE.py counted them."""
    from span_electra.features.store import open_features

    opened = open_features(features)
    return opened.rows, int(opened.lengths_R.sum(dtype="int64"))


def check_counts(features: Path, rows: int, tokens: int, how: str) -> str:
    expect((rows, tokens) == counts_of(features), f"{rows} rows, {tokens} tokens, not {counts_of(features)}")
    return f"{how}: {rows:,} rows, {tokens:,} tokens, as the header says"


def pyarrow(_: Path, features: Path) -> str:
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.ipc.open_file(pa.memory_map(str(features))).read_all()
    tokens = pc.sum(pc.list_value_length(table["input_ids"])).as_py()
    return check_counts(features, table.num_rows, tokens, "`pa.ipc.open_file`")


def polars(_: Path, features: Path) -> str:
    import polars as pl

    frame = pl.read_ipc(features)
    return check_counts(features, len(frame), int(frame["input_ids"].list.len().sum()), "`pl.read_ipc`")


def pandas(_: Path, features: Path) -> str:
    import pandas as pd

    frame = pd.read_feather(features)
    return check_counts(features, len(frame), int(frame["input_ids"].map(len).sum()), "`pd.read_feather`")


def duckdb(_: Path, features: Path) -> str:
    import duckdb as db
    import pyarrow as pa

    connection = db.connect()
    connection.register("features", pa.ipc.open_file(pa.memory_map(str(features))).read_all())
    rows, tokens = connection.execute("select count(*), sum(len(input_ids)) from features").fetchone()
    return check_counts(features, rows, int(tokens), "SQL over the Arrow table")


def datasets(_: Path, features: Path) -> str:
    import datasets as library

    with tempfile.TemporaryDirectory() as cache:
        rows = library.load_dataset("arrow", data_files=str(features), split="train", cache_dir=cache)
        tokens = sum(len(row["input_ids"]) for row in rows)
        return check_counts(features, len(rows), tokens, "`load_dataset('arrow', ...)`")


CLIENTS = {  # the client, the package whose version is told
    "trainer": (trainer, "transformers"),
    "pipelines": (pipelines, "transformers"),
    "sentence-transformers": (sentence_transformers, "sentence-transformers"),
    "setfit": (setfit, "setfit"),
    "spacy-transformers": (spacy_transformers, "spacy-transformers"),
    "onnxruntime": (onnx, "onnxruntime"),
    "peft": (peft, "peft"),
    "minicons": (minicons, "minicons"),
    "pyarrow": (pyarrow, "pyarrow"),
    "polars": (polars, "polars"),
    "pandas": (pandas, "pandas"),
    "duckdb": (duckdb, "duckdb"),
    "datasets": (datasets, "datasets"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("run", type=Path)
    parser.add_argument("features", type=Path)
    asked = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    # Files of clients are named like them; their own modules must come first.
    sys.path[:] = [
        path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent
    ]
    client, package = CLIENTS[asked.client]
    came_out = client(asked.run, asked.features)
    print(f"| {asked.client} | {importlib.metadata.version(package)} | {came_out} |")


if __name__ == "__main__":
    main()
