"""Going on from a published model: its sizes, its tokenizer, and what of it is not there."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.data_config import ChunkConfig
from span_electra.errors import InputError
from span_electra.storage import CONFIG

if TYPE_CHECKING:
    from span_electra.hub.opening import Opened
    from span_electra.pretraining.arguments import PretrainingArguments
    from span_electra.text.vocabulary import Vocabulary

NARROWER = 4  # a discriminator's width over that of a generator that is not there (ELECTRA: 3 or 4)


def published_folder(settings: PretrainingArguments) -> Path | None:
    """The exported or stock folder that --init_from names; None for checkpoints, tensors and nothing."""
    if not settings.init_from:
        return None
    # By its files alone: nothing is opened yet, and a run of ours is known by its checkpoints.
    folder = Path(settings.init_from)
    return folder if any(_is_stock(folder / part) for part in ("generator", "discriminator", ".")) else None


def _is_stock(folder: Path) -> bool:
    """Whether a folder holds a stock network; a run's own config.json has no weights beside it."""
    from span_electra.hub.folders import OLD_WEIGHTS, WEIGHTS

    return (folder / CONFIG).is_file() and any((folder / name).is_file() for name in (WEIGHTS, OLD_WEIGHTS))


def model_like(opened: Opened, config: ModelConfig, named: Collection[str] = ()) -> ModelConfig:
    """`config` with the sizes of the opened networks, so that their weights fit.

    The network that was not published has a quarter of the discriminator's width, or four times the
    generator's, and as many layers, but for sizes of it that are `named`, as `generator.hidden_size`. Raises
    InputError for a folder of neither network, and where something else is named than its networks have.
    """
    from span_electra.hub.architectures import record_of

    # Of the weights themselves: a config.json may say less than our settings need.
    found = {part: opened.need(part).config for part in opened.pretrained()}
    one = next(iter(found.values()))
    networks = {part: one.discriminator for part, one in found.items()}
    if "generator" not in networks:
        networks["generator"] = _scaled(networks["discriminator"], 1, NARROWER)
    if "discriminator" not in networks:
        networks["discriminator"] = _scaled(networks["generator"], NARROWER, 1)
    for part in networks.keys() - found.keys():
        asked = {key.partition(".")[2] for key in named if key.startswith(f"{part}.")}
        own = {name: getattr(getattr(config, part), name) for name in asked}
        networks[part] = replace(networks[part], **own)
    head = found.get("discriminator", config).dim_final_feedforward
    # What the layers compute with cannot be chosen anew.
    computed = ("architecture", "vocab_size", "max_position_embeddings", *record_of(one, "none").sizes)
    sizes = {name: getattr(one, name) for name in computed}
    model = replace(config, dim_final_feedforward=head, **sizes, **networks)
    for key in sorted(named):
        wanted, theirs = attrgetter(key)(config), attrgetter(key)(model)
        if wanted not in (None, theirs):
            raise InputError(
                f"{key}: {wanted}, but the weights of {opened.source} are for {theirs}; leave it out"
            )
    return model


def _scaled(network: NetworkConfig, times: int, over: int) -> NetworkConfig:
    """A network whose heads are as wide and whose sizes are scaled; never less than one head."""
    # Fewer heads, as wide: that is how ELECTRA's own generators were made smaller.
    head = network.hidden_size // network.num_attention_heads
    heads = max(1, network.num_attention_heads * times // over)
    wide = network.intermediate_size * heads // network.num_attention_heads
    return NetworkConfig(head * heads, network.num_hidden_layers, heads, wide)


def like_published(settings: PretrainingArguments, named: Iterable[str] = ()) -> PretrainingArguments:
    """The settings with the published model's sizes, where --init_from names one; says so in a line each.

    `named`: the settings, by dotted paths, that flags give. Raises InputError as `model_like` does.
    """
    if settings.resume or settings.checkpoint_path:
        return settings  # the run's own settings have the sizes, whatever stands in that folder now
    folder, words = published_folder(settings), settings.train_data.add_tokens
    if words and folder is None and (settings.init_from or not settings.train_data.raw_text_dir):
        raise InputError(
            f"add_tokens: {words} extends the vocabulary of raw text (--raw_text_dir) or of an exported "
            "folder (--init_from), and neither is named; features that were made with it need it no more"
        )
    if folder is None:
        return settings
    from span_electra.hub.opening import open_model

    opened = open_model(folder)
    of_model = [key.removeprefix("model.") for key in named if key.startswith("model.")]
    model = model_like(opened, settings.model, of_model)
    if words:
        from span_electra.text.added_tokens import add_tokens

        size = add_tokens(opened.vocabulary, words).size
        print(f"{words}: tokens added: {size - opened.vocabulary.size:,}")
        model = replace(model, vocab_size=max(model.vocab_size, size))
    print(f"{folder}: the model takes its sizes ({model.architecture}, {model.vocab_size:,} rows of words)")
    for part in ("generator", "discriminator"):
        if part not in opened.readers:
            width = getattr(model, part).hidden_size
            print(f"{folder}: holds no {part}; one of width {width} starts anew, but for what is shared")
    return replace(settings, model=model)


def model_vocabulary(settings: PretrainingArguments, resumed: Path | None) -> Vocabulary | None:
    """The resumed run's or published model's tokenizer, which reads raw text unless a vocabulary is named."""
    data = settings.train_data
    # A table's rows are its own tokenizer's: another one would only fit by accident, so it must be named.
    if data.vocab_file or data.tokenizer:
        return None
    if resumed:  # whose has the tokens that were added; what the run began with may be gone
        from span_electra.hub.runs import vocabulary_of_run

        return vocabulary_of_run(resumed)
    folder = published_folder(settings)
    if folder is None:
        return None
    from span_electra.hub.opening import open_model
    from span_electra.text.added_tokens import add_tokens

    opened = open_model(folder)
    opened.check_tokenizer()
    vocabulary = opened.vocabulary
    return add_tokens(vocabulary, data.add_tokens) if data.add_tokens else vocabulary


def fitting_rows(chunking: ChunkConfig, settings: PretrainingArguments, resumed: Path | None) -> ChunkConfig:
    """Rows no longer than a published model's positions; said in a line where they are cut."""
    longest = settings.model.max_position_embeddings
    published = settings.init_from if resumed else published_folder(settings)
    if published is None or chunking.max_seq_len <= longest:
        return chunking
    print(f"{settings.init_from}: has {longest} positions; rows have at most as many tokens")
    return replace(chunking, max_seq_len=longest)
