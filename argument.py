"""The stages' arguments: one dataclass a stage, each field with its default and its help.

Every field is a flag of its script (`python create_feature_SE.py --help`) and a key of its config file. The
older way works too: edit the defaults here and run the script bare. The sections of JointTrainingConfig are
described in span_electra/config.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from span_electra.config import (
    LONGEST_ROW,
    LoaderConfig,
    MaskingConfig,
    ModelConfig,
    NetworkConfig,
    OptimizerConfig,
    TrainingConfig,
    check_fields,
    setting,
)
from span_electra.errors import InputError


@dataclass(frozen=True)
class VocabularyArgs:
    """create_vocab_SE.py"""

    data_dir: str = setting("data", "folder of text files; absent or empty: the sample corpus is made there")
    out_dir: str = setting("vocab", "folder that gets the vocabulary")
    tokenizer_type: str = setting("BPE", "byte-level BPE, or BERT's WordPiece", ("BPE", "BERT"))
    min_fre: int = setting(2, "a pair of tokens seen less often is not merged", least=1)
    vocab_size: int = setting(10000, "tokens of the vocabulary, special ones included", least=6)
    model_name: str = setting("trial", "leads the file names: 'trial BPE-vocab.json'")
    lowercase: bool = setting(True, "BERT: fold capital letters; BPE keeps every byte")
    strip_accents: bool | None = setting(None, "BERT: drop accents; none: as lowercase does")
    errors: str = setting("strict", "invalid UTF-8: stop, or go on with U+FFFD", ("strict", "replace"))
    text_field: str = setting("text", "the field or column with the text in .jsonl, .tsv and .parquet")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class FeatureArgs:
    """create_feature_SE.py"""

    in_file: list[str] = setting([], "text files, folders or globs; none: every split found in data/")
    out_file: str | None = setting(None, "the feature file; none: features/<split>.arrow")
    tokenizer_type: str | None = setting(
        None, "none: the type of the vocabulary found", (None, "BPE", "BERT")
    )
    vocab_file: str | None = setting(None, "'... BPE-vocab.json' or '... BERT-vocab.txt'; none: in vocab/")
    merges_file: str | None = setting(None, "'... BPE-merges.txt'; none: beside the vocabulary")
    max_seq_len: int = setting(
        512, "tokens of the longest row, [CLS] and [SEP] included", least=3, most=LONGEST_ROW
    )
    short_chunk_prob: float = setting(0.05, "share of chunks cut to a random shorter length")
    respect_documents: bool = setting(False, "blank lines end a document; no chunk crosses one")
    mask_ratio: float = setting(0.2, "share of a chunk's content tokens that is hidden")
    max_span_len: int = setting(20, "longest span, in whole words", least=1, most=LONGEST_ROW)
    geometric_p: float = setting(0.2, "p of the geometric law of span lengths")
    seed: int = setting(0, "seed of chunk lengths and masks", least=0)
    workers: int = setting(2, "processes; more than the machine's cores are not started", least=1)
    # Each block is a file, synced, until all are joined: blocks of few lines are mostly that.
    chunk_size: int = setting(
        20000, "lines handed to one process at a time; rows do not cross these blocks", least=100
    )
    shards: int = setting(0, "write a folder of so many files; 0: one file", least=0, most=99999)
    engine: str = setting("local", "processes of this machine, or a Ray cluster", ("local", "ray"))
    errors: str = setting("strict", "invalid UTF-8: stop, or go on with U+FFFD", ("strict", "replace"))
    text_field: str = setting("text", "the field or column with the text in .jsonl, .tsv and .parquet")
    inspect: str | None = setting(None, "describe this feature file and stop")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Joint_trainDataArgs:
    """What the model learns from, and how its rows become batches."""

    train_file: list[str] = setting([], "feature files, folders or globs; none: features/train.arrow")
    train_occur: list[int] = setting(
        [0], "use only so many rows, of all or of each file in turn; 0: all", least=0
    )
    train_batch_size: int = setting(32, "rows of a batch, all devices together", least=1)
    batch_max_tokens: int = setting(0, "padded tokens of a batch, all devices; 0: rows decide", least=0)
    bucket_span: int = setting(64, "batches whose rows are sorted by length together", least=1)
    masking: str = setting("dynamic", "new spans each epoch, or the file's", ("dynamic", "static"))
    masking_schedule: list[str] = setting(
        [],
        "the law of spans by phases, each 'BEGIN: settings' with BEGIN a step or a share of all steps: "
        "'0: mask_ratio=0.3 max_span_len=1 whole_words=false' '0.5: max_span_len=3'; none: the features' law",
    )
    spelling_noise: float = setting(
        0.0, "share of the words that are misspelt, for the discriminator to find, wherever it learns"
    )
    # Raw text instead of a feature file: the features are built first, with the settings below.
    raw_text_dir: str | None = setting(None, "folder of text to make the training features from")
    tokenizer_type: str | None = setting(
        None, "none: the type of the vocabulary found", (None, "BPE", "BERT")
    )
    vocab_file: str | None = setting(None, "vocabulary; none: the one in vocab/")
    merges_file: str | None = setting(None, "merges of a BPE vocabulary; none: beside it")
    max_seq_len: int = setting(
        512, "tokens of the longest row, [CLS] and [SEP] included", least=3, most=LONGEST_ROW
    )
    respect_documents: bool = setting(False, "blank lines end a document; no chunk crosses one")
    mask_ratio: float = setting(0.2, "share of a chunk's content tokens that is hidden")
    max_span_len: int = setting(20, "longest span, in whole words", least=1, most=LONGEST_ROW)
    geometric_p: float = setting(0.2, "p of the geometric law of span lengths")
    save_tokenized_text: bool = setting(False, "keep the tokens as text in the run folder")
    save_features: bool = setting(False, "keep the features in the run folder")

    def __post_init__(self) -> None:
        check_fields(self)
        MaskingConfig(self.mask_ratio, self.max_span_len, self.geometric_p)  # checks its own
        LoaderConfig(
            self.train_batch_size,
            self.batch_max_tokens,
            self.bucket_span,
            self.masking,
            masking_schedule=self.masking_schedule,
            spelling_noise=self.spelling_noise,
        )


@dataclass(frozen=True)
class Joint_validDataArgs:
    """What the model is tried on."""

    valid_file: list[str] = setting([], "feature files; none: features/valid.arrow, else a split of train")
    valid_occur: list[int] = setting(
        [0], "use only so many rows, of all or of each file in turn; 0: all", least=0
    )
    valid_batch_size: int = setting(32, "rows of a batch, all devices together", least=1)
    valid_split: list[float] = setting(
        [0.02],
        "without a validation file: rows (or, below 1, share) split from each training file",
        least=0,
    )
    raw_text_dir: str | None = setting(None, "folder of text to make the validation features from")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class JointTrainingConfig:
    """joint_train_span_electra.py"""

    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(
            embedding_size=256,
            max_position_embeddings=512,
            generator=NetworkConfig(
                hidden_size=128, num_hidden_layers=12, num_attention_heads=2, intermediate_size=512
            ),
            discriminator=NetworkConfig(
                hidden_size=512, num_hidden_layers=12, num_attention_heads=8, intermediate_size=2048
            ),
        )
    )
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    train_data: Joint_trainDataArgs = field(default_factory=Joint_trainDataArgs)
    valid_data: Joint_validDataArgs = field(default_factory=Joint_validDataArgs)
    workers: int = setting(1, "threads that prepare batches ahead", least=0)
    out_dir: str | None = setting(None, "the run's folder; none: <output_prefix>/<experiment_name>")
    output_prefix: str = setting("runs", "folder that holds the runs")
    experiment_name: str | None = setting(None, "the run's name; none: the time it started")
    resume: str | None = setting(None, "go on with this run folder, or 'latest' under output_prefix")
    checkpoint_path: str | None = setting(None, "go on from this checkpoint folder")
    init_from: str | None = setting(None, "start from the weights of a run or an exported folder")
    generator_path: str | None = setting(None, "objective discriminator: where the trained generator stands")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ExportArgs:
    """export_SE.py"""

    checkpoint_path: str | None = setting(None, "a checkpoint folder, runs/<run>/checkpoints/step-...")
    out_dir: str | None = setting(None, "folder that gets generator/ and discriminator/")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ReportArgs:
    """report_SE.py"""

    runs: list[str] = setting([], "run folders; one: its own report, several: side by side on one page")
    out_file: str | None = setting(
        None, "the page; none: report.html in the run's folder, or comparison.html here"
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class EvaluateArgs:
    """evaluate_SE.py"""

    model: str | None = setting(None, "a run or an exported folder; none: the newest run in runs/")
    pairs: list[str] = setting([], "minimal pairs: .jsonl files, or folders of them")
    scores: list[str] = setting(
        [], "of pairs: discriminator, pll, pll_l2r; none: all that the model can give"
    )
    spelling: str | None = setting(None, "folder with dev/ and test/, each with corrupt.txt and correct.txt")
    correction_rows: int = setting(200, "lines of each clean-text set that are corrected; 0: none", least=0)
    text: str | None = setting(None, "held-out text: a file or folder")
    task_file: str | None = setting(None, "YAML: tasks on which a run of finetune_SE.py is tried")
    data_dir: str = setting("data", "folder that the task file's files lie in")
    max_seq_len: int = setting(128, "tokens of the longest row of --text, [CLS] and [SEP] included", least=3)
    batch_size: int = setting(256, "rows computed together", least=1)
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps or xpu")
    out_file: str | None = setting(None, "JSON; none: evaluation.json in the run's folder, else here")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class PredictArgs:
    """predict_SE.py"""

    model: str | None = setting(None, "a run or an exported folder; none: the newest run in runs/")
    task: list[str] = setting(
        [],
        "fill, detect (if none is named), correct or embed; of a fine-tuned run its tasks by name, or all",
    )
    talk: bool = setting(False, "hold a conversation; no model named: the newest run in runs/ that can")
    in_file: str | None = setting(None, "lines of text; none: standard input")
    out_file: str | None = setting(None, "where answers go, .npy for embed; none: standard output")
    output: str = setting(
        "auto", "JSON lines or text; auto: text on a terminal and for correct", ("auto", "json", "text")
    )
    threshold: float = setting(0.5, "probability from which a word is called wrong", least=0)
    top_k: int | None = setting(
        None, "fillings told, candidates tried, none: 5; replies draw from so many tokens, none: all", least=1
    )
    max_new_tokens: int | None = setting(
        None, "most tokens of a reply; none: 40, and at most half a row", least=1
    )
    temperature: float = setting(1.0, "replies: below 1 bolder, above 1 wilder; 0: no draws", least=0)
    top_p: float | None = setting(
        None,
        "replies: draw from the likeliest tokens of this share; none: 0.9, with beams 1",
        least=0,
        most=1,
    )
    beams: int = setting(1, "replies: searched side by side; above 1 nothing is drawn", least=1)
    no_repeat_ngram: int = setting(0, "replies: no run of so many tokens comes twice; 0: any may", least=0)
    seed: int = setting(0, "replies: seed of the draws", least=0)
    batch_size: int = setting(32, "rows computed together", least=1)
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps or xpu")
    serve: bool = setting(False, "open a page on this machine to type into")
    host: str = setting("127.0.0.1", "address of the page; 0.0.0.0 lets other machines in")
    port: int = setting(8765, "port of the page; 0: any that is free", least=0, most=65535)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.talk and (self.in_file or self.out_file or self.serve):
            raise InputError(
                "talk: is held on the terminal or through a pipe; leave out in_file, out_file and serve"
            )


@dataclass(frozen=True)
class PrepareArgs:
    """prepare_tasks_SE.py"""

    task_file: str = setting("tasks.yaml", "YAML: the tasks, their types and files")
    data_dir: str = setting("data", "folder that the task file's files lie in")
    encoder: str | None = setting(None, "a run or an exported folder; none: the newest run in runs/")
    do_lower_case: bool = setting(False, "fold capital letters first, whatever the vocabulary does")
    max_seq_len: int = setting(128, "tokens of the longest row, special ones included", least=8)
    workers: int = setting(2, "processes; more than the machine's cores are not started", least=1)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class FinetuneArgs:
    """finetune_SE.py"""

    task_file: str = setting("tasks.yaml", "YAML: the tasks, their types and files")
    data_dir: str = setting("data", "folder of the tasks' files, or of prepared data")
    out_dir: str | None = setting(None, "the run's folder; none: runs/finetune-<time>")
    encoder: str | None = setting(None, "a run or an exported folder; none: the newest run in runs/")
    network: str = setting(
        "discriminator", "which network of a run is fine-tuned", ("discriminator", "generator")
    )
    from_scratch: bool = setting(False, "start the same network from random weights, to compare")
    epochs: int = setting(3, "passes over the rows", least=1)
    train_batch_size: int = setting(8, "rows of a batch, all devices together", least=1)
    eval_batch_size: int = setting(32, "rows computed together when trying", least=1)
    grad_accumulation_steps: int = setting(1, "batches whose gradients make one update", least=1)
    log_per_updates: int = setting(10, "updates between two lines of the log; 0: none", least=0)
    save_per_updates: int = setting(0, "updates between two checkpoints; 0: one an epoch", least=0)
    limit_save: int = setting(2, "newest checkpoints to keep, besides the best", least=1)
    silent: bool = setting(False, "tell nothing on the way")
    max_seq_len: int = setting(128, "tokens of the longest row, special ones included", least=8)
    do_lower_case: bool = setting(False, "fold capital letters first, whatever the vocabulary does")
    load_saved_model: str | None = setting(None, "a run of this script, or a checkpoint, to start from")
    resume_train: bool = setting(False, "go on with the saved run as if it had never stopped")
    finetune: bool = setting(False, "take only the encoder of the saved model, for other tasks")
    eval_while_train: bool = setting(False, "try on dev at every save, not at the epochs' ends alone")
    test_while_train: bool = setting(False, "tell the metrics on test too, whenever dev is tried")
    freeze_encoder: bool = setting(False, "only the heads learn")
    layer_lr_decay: float = setting(1.0, "each layer's rate as a share of that above", least=0, most=1)
    dropout: float = setting(0.1, "dropout of the encoder", least=0, most=0.9)
    seeds: int = setting(1, "runs with different seeds, told as mean and deviation", least=1, most=1000)
    seed: int = setting(0, "the first seed: of heads, order, noise and dropout", least=0)
    shuffle_buffer_size: int = setting(0, "rows shuffled together; 0: all of a file", least=0)
    workers: int = setting(2, "processes that prepare data", least=1)
    max_steps: int = setting(0, "stop after so many updates; 0: epochs alone decide", least=0)
    max_minutes: float = setting(0.0, "stop in time, with a checkpoint; 0: no limit", least=0)
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps or xpu")
    device_ids: list[int] = setting([], "one process for each of these devices; none: the first alone")
    precision: str = setting("auto", "auto: bf16 on a GPU that has it", ("auto", "fp32", "bf16", "fp16"))
    activation_checkpointing: bool = setting(False, "recompute activations: less memory, more time")
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=3e-4))

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("generator_lr", "discriminator_lr"):
            if getattr(self.optimizer, name) is not None:
                raise InputError(
                    f"{name}: fine-tuning has one network; use lr, and layer_lr_decay for layers"
                )
