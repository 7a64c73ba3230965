"""The arguments of pretraining: what is learned from, what is held out, and the run as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from span_electra.config import ModelConfig, OptimizerConfig, TrainingConfig
from span_electra.data_config import ChunkConfig, LoaderConfig, SpanMaskingConfig, TextConfig, VocabularyFiles
from span_electra.schema import Settings, same, setting


@dataclass(frozen=True)
class TrainDataArguments(TextConfig, VocabularyFiles, ChunkConfig, SpanMaskingConfig):
    """What the model learns from, and how its rows become batches.

    With `raw_text_dir` in place of a feature file, features are made first, with the vocabulary, rows and
    masks that are set here.
    """

    train_file: list[str] = setting([], "feature files, folders or globs; none: features/train.arrow")
    train_occur: list[int] = setting(
        [0], "use only so many rows, of all or of each file in turn; 0: all", least=0
    )
    train_batch_size: int = same(LoaderConfig, "batch_size")
    batch_max_tokens: int = same(LoaderConfig, "batch_max_tokens")
    bucket_span: int = same(LoaderConfig, "bucket_span")
    pack_rows: bool = same(LoaderConfig, "pack_rows")
    masking: str = same(LoaderConfig, "masking")
    masking_schedule: list[str] = same(LoaderConfig, "masking_schedule")
    spelling_noise: float = same(LoaderConfig, "spelling_noise")
    paired_rows: float = same(LoaderConfig, "paired_rows")
    raw_text_dir: str | None = setting(
        None, "text to make the training features from, as --in_file of create_feature_SE.py"
    )
    save_tokenized_text: bool = setting(
        False, "keep the tokens as text in the run folder, and with the features beside the text"
    )
    save_features: bool = setting(
        False, "keep the features in the run folder, and beside the text for later runs"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        LoaderConfig.of(self)  # refuses what contradicts itself


@dataclass(frozen=True)
class ValidDataArguments(Settings):
    """What the model is validated on."""

    valid_file: list[str] = setting(
        [],
        "feature files; none: features/valid.arrow if no --train_file is named, else a split of train",
    )
    valid_occur: list[int] = setting(
        [0], "use only so many rows, of all or of each file in turn; 0: all", least=0
    )
    valid_batch_size: int = same(
        LoaderConfig,
        "batch_size",
        help="rows of a validation batch, all processes together; compiled (--compile): training's",
    )
    valid_split: list[float] = setting(
        [0.02],
        "without a validation file: rows (or, below 1, share) held out, of all files together, or a value "
        "for each",
        least=0,
    )
    raw_text_dir: str | None = setting(
        None, "text to make the validation features from, with training's vocabulary, rows and masks"
    )


@dataclass(frozen=True)
class PretrainingArguments(Settings):
    """All of a pretraining run."""

    # Added tokens belong to an exported folder's vocabulary too.
    RAW_TEXT = (
        *(
            entry.name
            for kind in (TextConfig, VocabularyFiles, ChunkConfig, SpanMaskingConfig)
            for entry in fields(kind)
            if entry.name != "add_tokens"
        ),
        *("raw_text_dir", "save_tokenized_text", "save_features"),
    )

    BROUGHT_BY = {"model.architecture": "init_from"}

    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    train_data: TrainDataArguments = field(default_factory=TrainDataArguments)
    valid_data: ValidDataArguments = field(default_factory=ValidDataArguments)
    workers: int = same(LoaderConfig, "workers", group="devices")
    out_dir: str | None = setting(None, "the run's folder; none: <output_prefix>/<experiment_name>")
    output_prefix: str = setting("runs", "folder that holds the runs")
    experiment_name: str | None = setting(None, "the run's name; none: the time it started")
    resume: str | None = setting(
        None, "go on with this run folder; 'latest', or no value: the newest run", alone="latest"
    )
    checkpoint_path: str | None = setting(None, "go on from this checkpoint folder")
    init_from: str | None = setting(
        None, "start from the weights of a run, a checkpoint, an exported folder or a published model"
    )
    initial_optimizer: str | None = setting(
        None, "start with the optimizer's state of this run or checkpoint folder"
    )
    generator_path: str | None = setting(None, "objective discriminator: where the trained generator stands")
