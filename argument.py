"""The stages' arguments: one class a script, each field with its default and its help.

Every field is a flag of its script (`python create_feature_SE.py --help`) and a key of its config file. What
several scripts have stands once, in span_electra/config.py, data_config.py and the arguments.py of the rooms,
and is inherited here.

The older way works too: write other defaults into a class, as plain lines, and run the script bare:

    class Joint_trainDataArgs(TrainDataArguments):
        raw_text_dir = "my text"
        max_seq_len = 128

Lines of older argument files do what they say: `self.raw_text_dir = ...`, `gen_hidden_size = 128`,
`learningRate = 4e-5`, and at the top of this file `mask_ratio = 0.2`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from span_electra.config import DeviceConfig
from span_electra.data_config import (
    CHUNK_SIZE,
    ChunkConfig,
    SpanMaskingConfig,
    TextConfig,
    VocabularyConfig,
    VocabularyFiles,
)
from span_electra.elsewhere import (
    GENERAL_DATA_NAMES,
    GENERAL_NAMES,
    TRAIN_DATA_NAMES,
    TRAINING_NAMES,
    VALID_DATA_NAMES,
)
from span_electra.errors import InputError
from span_electra.evaluation.arguments import EvaluationArguments
from span_electra.finetuning.arguments import FinetuningArguments, TaskDataArguments
from span_electra.inference.arguments import GenerationArguments
from span_electra.pretraining.arguments import PretrainingArguments, TrainDataArguments, ValidDataArguments
from span_electra.schema import Settings, same, setting

# Older argument files began with "general" lines (`max_seq_len = 512`); they may stand here.


@dataclass(frozen=True)
class VocabularyArgs(VocabularyConfig):
    """create_vocab_SE.py"""

    FIRST = ("data_dir", "out_dir", "tokenizer_type", "vocab_size", "min_fre", "model_name")

    data_dir: str = setting(
        "data",
        "folder of text files, or hf:NAME[:config][:split]; where data/ is absent or empty, the default "
        "corpus is made there",
    )
    out_dir: str = setting("vocab", "folder that gets the vocabulary")
    model_name: str = setting("trial", "leads the file names: 'trial BPE-vocab.json'")


@dataclass(frozen=True)
class FeatureArgs(TextConfig, VocabularyFiles, ChunkConfig, SpanMaskingConfig):
    """create_feature_SE.py"""

    FIRST = (
        *("in_file", "out_file", "vocab_file", "merges_file", "tokenizer_type", "max_seq_len"),
        *("mask_ratio", "max_span_len", "workers", "inspect"),
    )

    in_file: list[str] = setting(
        [], "text files, folders, globs, URLs or hf:NAME[:config][:split]; none: every split found in data/"
    )
    out_file: str | None = setting(
        None, "the feature file, whose name tells the split; none: features/<split>.arrow, by names of text"
    )
    seed: int = setting(0, "seed of chunk lengths and masks", least=0)
    workers: int = setting(2, "processes; more than the machine's cores are not started", least=1)
    # Each block is a file of its own until all are joined: blocks of few lines are mostly that.
    chunk_size: int = setting(
        CHUNK_SIZE, "lines handed to one process at a time; rows do not cross these blocks", least=100
    )
    shards: int = setting(0, "write a folder of so many files; 0: one file", least=0, most=99999)
    engine: str = setting("local", "processes of this machine, or a Ray cluster", ("local", "ray"))
    inspect: str | None = setting(None, "describe this feature file and stop")


@dataclass(frozen=True)
class Joint_trainDataArgs(TrainDataArguments):
    """What the model learns from, and how its rows become batches."""

    OLDER_NAMES = TRAIN_DATA_NAMES
    OLDER_MODULE_NAMES = GENERAL_DATA_NAMES


@dataclass(frozen=True)
class Joint_validDataArgs(ValidDataArguments):
    """What the model is validated on."""

    OLDER_NAMES = VALID_DATA_NAMES


@dataclass(frozen=True)
class JointTrainingConfig(PretrainingArguments):
    """joint_train_span_electra.py"""

    OLDER_NAMES = TRAINING_NAMES
    OLDER_MODULE_NAMES = GENERAL_NAMES
    FIRST = (
        *("config_file", "preset", "train_file", "valid_file", "out_dir", "epochs", "train_batch_size"),
        *("lr", "device_ids", "resume"),
    )

    train_data: Joint_trainDataArgs = field(default_factory=Joint_trainDataArgs)
    valid_data: Joint_validDataArgs = field(default_factory=Joint_validDataArgs)


@dataclass(frozen=True)
class ExportArgs(Settings):
    """export_SE.py"""

    POSITIONAL = "checkpoint_path"
    READ_WITH = {"dry_run": ("push_to_hub",)}

    checkpoint_path: str | None = setting(
        None, "a checkpoint folder, runs/<run>/checkpoints/step-..., or a run: its newest, of tasks its best"
    )
    out_dir: str | None = setting(
        None, "folder that gets generator/ and discriminator/, or a folder for each task"
    )
    license: str | None = setting(None, "licence that the model cards name, such as apache-2.0")
    language: list[str] = setting([], "languages of the text, for the cards, such as en de")
    datasets: list[str] = setting([], "data sets of the hub that the text is from, for the cards")
    base_model: str | None = setting(None, "model of the hub that the run started from, for the cards")
    push_to_hub: str | None = setting(
        None, "upload as NAME-generator and NAME-discriminator, or NAME-<task>, to the Hugging Face hub"
    )
    dry_run: bool = setting(False, "with --push_to_hub: show what would go up, send nothing")


@dataclass(frozen=True)
class ReportArgs(Settings):
    """report_SE.py"""

    POSITIONAL = "runs"

    runs: list[str] = setting([], "run folders; one: its own report, several: side by side on one page")
    out_file: str | None = setting(
        None, "the page; none: report.html in the run's folder, or comparison.html here"
    )


@dataclass(frozen=True)
class EvaluateArgs(EvaluationArguments):
    """evaluate_SE.py"""

    POSITIONAL = "model"


@dataclass(frozen=True)
class PredictArgs(GenerationArguments):
    """predict_SE.py"""

    POSITIONAL = "model"
    FIRST = ("model", "task", "talk", "in_file", "out_file", "output")
    READ_WITH = {"host": ("serve",), "port": ("serve",)}

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
    threshold: float = setting(0.5, "probability from which a word is called wrong", least=0, most=1)
    batch_size: int = setting(32, "rows computed together", least=1)
    device: str = same(DeviceConfig, "device", group="")
    serve: bool = setting(False, "open a page on this machine to type into")
    host: str = setting("127.0.0.1", "address of the page; 0.0.0.0 lets other machines in")
    port: int = setting(8765, "port of the page; 0: any that is free", least=0, most=65535)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.talk and (self.in_file or self.out_file or self.serve or self.output != "auto"):
            raise InputError(
                "talk: is held on the terminal or through a pipe; leave out in_file, out_file, output "
                "and serve"
            )
        if self.serve and (self.in_file or self.out_file or self.task or self.output != "auto"):
            raise InputError(
                "serve: the page takes what is typed into it and shows all there is; leave out task, "
                "in_file, out_file and output"
            )


@dataclass(frozen=True)
class PrepareArgs(TaskDataArguments):
    """prepare_tasks_SE.py"""


@dataclass(frozen=True)
class FinetuneArgs(FinetuningArguments):
    """finetune_SE.py"""

    FIRST = (
        *("task_file", "data_dir", "encoder", "out_dir", "epochs", "train_batch_size", "lr"),
        *("max_seq_len", "seeds", "load_saved_model"),
    )
