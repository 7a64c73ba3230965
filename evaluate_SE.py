"""A trained model -> numbers that mean something without fine-tuning; a fine-tuned one -> its tasks' metrics.

Reads a run folder of joint_train_span_electra.py or an exported ELECTRA (generator/ and discriminator/, or
the folder of one stock network). Prints tables and writes evaluation.json into the run's folder, where
report_SE.py finds it; later calls add to it.

    python evaluate_SE.py runs/first --pairs blimp/           minimal pairs: .jsonl files or folders of them
    python evaluate_SE.py runs/first --spelling spelling/     spelling errors: found, by words and lines
    python evaluate_SE.py runs/first --text valid.txt         losses, F1, calibration on held-out text
    python evaluate_SE.py runs/first --pairs blimp/ --scores discriminator     the one-pass score alone
    python evaluate_SE.py runs/tuned --task_file tasks.yaml --data_dir data/   a run of finetune_SE.py

The folder of --spelling has dev/ and test/; sets in them whose correct.txt is clean text are corrected too,
the first --correction_rows lines of each. A fine-tuned model is tried on dev and test of each task.
"""

import sys
from collections.abc import Iterator

from argument import EvaluateArgs
from span_electra.commandline import first_as, parse, run_script
from span_electra.errors import InputError


def main() -> None:
    settings = parse(EvaluateArgs, __doc__, first_as("model", sys.argv[1:]))
    for text in tables(settings):
        print(text, flush=True)


def tables(settings: EvaluateArgs) -> Iterator[str]:
    """What to print, by what was asked for."""
    from span_electra.evaluation.stage import evaluate
    from span_electra.hub.runs import newest_run

    if settings.task_file:
        from span_electra.evaluation.tasks import evaluate_tasks

        if settings.pairs or settings.spelling or settings.text:
            raise InputError(
                "--task_file tries a fine-tuned model, --pairs, --spelling and --text a pretrained one; "
                "run the script once for each"
            )
        if not settings.model:
            raise InputError("--task_file needs a model: name the folder that finetune_SE.py made")
        return evaluate_tasks(
            settings.model,
            settings.task_file,
            data_dir=settings.data_dir,
            batch_size=settings.batch_size,
            device=settings.device,
            out_file=settings.out_file,
        )
    return evaluate(
        settings.model or newest_run(),
        settings.pairs,
        spelling=settings.spelling,
        text=settings.text,
        scores=settings.scores,
        batch_size=settings.batch_size,
        max_seq_len=settings.max_seq_len,
        device=settings.device,
        out_file=settings.out_file,
        correction_rows=settings.correction_rows,
    )


if __name__ == "__main__":
    run_script(main)
