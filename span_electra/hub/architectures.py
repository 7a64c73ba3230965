"""The records of encoder types, and which of them a config.json or our own settings mean.

One more architecture is one more record, named here, and a layer class in model/layers.py.
"""

from __future__ import annotations

from span_electra.config import ModelConfig, NetworkConfig
from span_electra.errors import InputError
from span_electra.hub.architecture import SIZES, Architecture, StockConfig
from span_electra.hub.electra import ELECTRA
from span_electra.hub.modernbert import MODERN
from span_electra.storage import OURS

ARCHITECTURES = {record.name: record for record in (ELECTRA, MODERN)}


def record_of(config: ModelConfig, head: str) -> Architecture:
    """The record by which a network of ours with this head is exported."""
    record = ARCHITECTURES[config.architecture]
    return record.decoder if head == "causal" and record.decoder else record


def architecture_of(settings: StockConfig, source: str) -> Architecture:
    """The record of a config.json. Raises InputError, naming `source`, where there is none."""
    records = [*ARCHITECTURES.values(), *(one.decoder for one in ARCHITECTURES.values() if one.decoder)]
    kind, classes = settings.get("model_type"), settings.get("architectures") or ()
    for record in records:
        # Before transformers 2.8 a config.json named its class alone.
        if kind == record.model_type or (kind is None and set(classes) & set(record.classes.values())):
            return record
    known = " or ".join(record.model_type for record in records)
    raise InputError(
        f"{source}: model_type is {settings.get('model_type')!r}, wanted is {known}; "
        "name an exported folder, or that of a stock model of these types"
    )


def model_config(settings: StockConfig, source: str) -> ModelConfig | None:
    """The settings of our networks that compute what a stock config.json describes.

    None: our layers compute none such. Raises InputError for a type of model that we do not know.
    """
    record = architecture_of(settings, source)
    try:
        fields = record.read_settings(settings)
        if fields is None:
            return None
        # A stock folder holds one network; which of ours it becomes, its head decides later.
        network = NetworkConfig(**{name: settings[name] for name in SIZES})
        return ModelConfig(
            architecture=record.name,
            vocab_size=settings["vocab_size"],
            generator=network,
            discriminator=network,
            initializer_range=settings.get("initializer_range") or 0.02,
            initialization=(settings.get(OURS) or {}).get("initialization", "normal"),
            **fields,
        )
    except InputError as error:  # sizes that fit no network at all
        raise InputError(f"{source}: {error}") from None
    except (KeyError, TypeError, AttributeError):
        return None  # sizes left out have defaults that the stock class knows
