"""A trained model -> `generator/` and `discriminator/` that stock `transformers` opens, and back.

Each folder holds config.json, model.safetensors, the tokenizer's files and a model card (README.md); a
span-boundary head, for which the stock classes have no place, stands aside in span_heads.safetensors.
`load_exported` starts a model from such a folder, or from any stock ELECTRA in safetensors.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from span_electra.config import ModelConfig
from span_electra.errors import InputError
from span_electra.hub.model_card import render_card
from span_electra.hub.weights import PARTS, stock_weights, take_stock_weights
from span_electra.model.electra import SpanElectra
from span_electra.storage import atomic_folder
from span_electra.text.vocabulary import Vocabulary, save_transformers_tokenizer

ARCHITECTURE = {"generator": "ElectraForMaskedLM", "discriminator": "ElectraForPreTraining"}
OURS = "span_electra"  # the key of config.json by which a folder is known as one of ours
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
SHARED_SIZES = ("vocab_size", "embedding_size", "max_position_embeddings", "type_vocab_size")
SPAN_HEADS = "span_heads.safetensors"


def export_run(model: SpanElectra, vocabulary: Vocabulary, folder: str | Path, card: dict) -> list[Path]:
    """Write the trained networks into `folder`; returns the folders made.

    `card`: sections of the model card, such as data, settings, metrics. Under the objective `generator` the
    discriminator knows nothing and is left out. An earlier export of ours is replaced; raises InputError for
    any other folder in the way.
    """
    if model.config.architecture != "electra":
        print(f"architecture {model.config.architecture}: no export yet; the checkpoint holds the networks")
        return []
    parts = PARTS[:1] if model.config.objective == "generator" else PARTS
    targets = [Path(folder, part) for part in parts]
    for target in targets:
        check_free(target)
    for part, target in zip(parts, targets, strict=True):
        with atomic_folder(target) as beside:
            _write_network(model, part, vocabulary, beside, card)
    return targets


def _write_network(model: SpanElectra, part: str, vocabulary: Vocabulary, folder: Path, card: dict) -> None:
    network, config = getattr(model, part), model.config
    settings = stock_config(config, part, vocabulary.pad_id)
    Path(folder, "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    # transformers refuses a file that does not say which framework's tensors it holds.
    save_file(stock_weights(network, part), Path(folder, "model.safetensors"), metadata={"format": "pt"})
    save_transformers_tokenizer(vocabulary, folder, config.max_position_embeddings)
    if network.span_head is not None:
        heads = {
            name: weight.detach().to("cpu", torch.float32).contiguous()
            for name, weight in network.span_head.state_dict().items()
        }
        save_file(heads, Path(folder, SPAN_HEADS))
    text = render_card(part, card, network.span_head is not None)
    Path(folder, "README.md").write_text(text, encoding="utf-8")


def stock_config(config: ModelConfig, part: str, pad_id: int) -> dict:
    """Return the config.json of one network."""
    network = getattr(config, part)
    return {
        "architectures": [ARCHITECTURE[part]],
        "model_type": "electra",
        **{name: getattr(config, name) for name in SHARED_SIZES},
        **{name: getattr(network, name) for name in SIZES},
        "hidden_act": config.hidden_act,
        "hidden_dropout_prob": config.hidden_dropout_prob,
        "attention_probs_dropout_prob": config.attention_probs_dropout_prob,
        "layer_norm_eps": config.layer_norm_eps,
        "initializer_range": config.initializer_range,
        "pad_token_id": pad_id,
        "tie_word_embeddings": True,
        OURS: {
            "part": part,
            "embedding_sharing": config.embedding_sharing,
            "initialization": config.initialization,  # for who compares with a start from random weights
        },
    }


def check_free(target: Path) -> None:
    """Refuse a place that holds something else than an export of ours. Raises InputError naming it."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        if OURS in json.loads(Path(target, "config.json").read_text(encoding="utf-8")):
            return
    except (OSError, ValueError, RecursionError):
        pass  # no config of ours: refused below
    raise InputError(f"{target}: is in the way and no export of ours; move it or choose another folder")


# --- back ---------------------------------------------------------------------------------------------


def load_exported(
    folder: str | Path, model: SpanElectra, vocabulary: Vocabulary | None = None, only: str | None = None
) -> list[str]:
    """Start `model` from a run's folder (generator/ and discriminator/) or from that of one network.

    `vocabulary`: compared with the folder's own. `only`: take this part alone. Returns one line for each
    thing taken or left as it was. Raises InputError for a folder that is no ELECTRA, is pickled, or has
    other sizes; the model is as it was then.
    """
    folder = Path(folder)
    found = {part: Path(folder, part) for part in PARTS if Path(folder, part, "config.json").is_file()}
    if not found:
        found = {read_part(folder): folder}
    if only:
        if only not in found:
            raise InputError(f"{folder}: holds no {only}; name the folder of one")
        found = {only: found[only]}
    stock = {}
    for part, place in found.items():  # all is read and checked before anything is taken
        _check_sizes(place, part, model.config)
        _check_vocabulary(place, vocabulary)
        stock[part] = read_weights(place)
    notes = []
    for part in PARTS:  # the generator first: under GDES the discriminator's change is counted from it
        if part in found:
            take_stock_weights(getattr(model, part), part, stock[part], str(found[part]))
            notes += [f"{part}: weights from {found[part]}", *_take_span_head(model, part, found[part])]
    return notes


def read_config(folder: Path) -> dict:
    """The config.json of an exported network. Raises InputError when it is no ELECTRA's."""
    path = Path(folder, "config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name an exported folder or a stock ELECTRA's") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not JSON; name an exported folder or a stock ELECTRA's") from None
    if not isinstance(config, dict) or config.get("model_type") != "electra":
        raise InputError(f"{path}: not an ELECTRA; name an exported folder or a stock ELECTRA's")
    return config


def read_part(folder: Path) -> str:
    """Which network an exported folder holds: generator or discriminator."""
    classes = read_config(folder).get("architectures") or []
    for part, name in ARCHITECTURE.items():
        if name in classes:
            return part
    wanted = " or ".join(ARCHITECTURE.values())
    raise InputError(f"{folder}: its class is {', '.join(classes) or 'unnamed'}; wanted is {wanted}")


def _check_sizes(folder: Path, part: str, config: ModelConfig) -> None:
    theirs, ours = read_config(folder), stock_config(config, part, pad_id=0)
    # What a stock config.json leaves out has these values there.
    usual = {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "max_position_embeddings": 512,
    }
    for name in (*SHARED_SIZES, *SIZES, "hidden_act", "layer_norm_eps"):
        value = theirs.get(name, usual.get(name))
        if value != ours[name]:
            key = f"{part}.{name}" if name in SIZES else name
            raise InputError(f"{folder}: {name} is {value}, the model's is {ours[name]}; set {key}={value}")


def _check_vocabulary(folder: Path, vocabulary: Vocabulary | None) -> None:
    """Refuse a folder whose tokenizer numbers the tokens otherwise; without one it is taken on trust."""
    path = Path(folder, "tokenizer.json")
    if vocabulary is None or not path.is_file():
        return
    other = Vocabulary.from_json(path.read_text(encoding="utf-8"), str(path))
    if other.tokens_V != vocabulary.tokens_V:
        raise InputError(
            f"{folder}: made with vocabulary {other.sha256[:12]}, the features with "
            f"{vocabulary.sha256[:12]}; make the features with that folder's vocabulary"
        )


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of an exported network under stock names. A pickle is refused."""
    path = Path(folder, "model.safetensors")
    if not path.is_file():
        if Path(folder, "pytorch_model.bin").is_file():
            raise InputError(
                f"{folder}/pytorch_model.bin: a pickle, which can run any code and is never opened here; "
                "save the model again with safe_serialization=True"
            )
        raise InputError(f"{path}: not there; name a folder with weights in safetensors")
    return _open_weights(path)


def _open_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error}); fetch or export it again") from None


def _take_span_head(model: SpanElectra, part: str, folder: Path) -> list[str]:
    head, path = getattr(model, part).span_head, Path(folder, SPAN_HEADS)
    if head is None:
        return [f"{part}: its span-boundary head is left out"] if path.is_file() else []
    if not path.is_file():
        return [f"{part}: no span-boundary head there; it starts afresh"]
    weights, own = _open_weights(path), head.state_dict()
    if {name: weight.shape for name, weight in weights.items()} != {n: w.shape for n, w in own.items()}:
        raise InputError(f"{path}: its names or sizes are not the model's; move it away to start afresh")
    head.load_state_dict(weights)
    return [f"{part}: span-boundary head from {path}"]
