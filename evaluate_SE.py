"""A trained model -> numbers that mean something without fine-tuning; a fine-tuned one -> its tasks' metrics.

Reads a run folder of joint_train_span_electra.py or an exported ELECTRA (generator/ and discriminator/, or
the folder of one stock network). Prints tables and writes evaluation.json into the run's folder, where
report_SE.py finds it; later calls add to it, and say which numbers of other data they replace.

    python evaluate_SE.py runs/first --pairs blimp/           minimal pairs: .jsonl files or folders of them
    python evaluate_SE.py runs/first --spelling spelling/     spelling errors: found, by words and lines
    python evaluate_SE.py runs/first --text valid.txt         losses, F1, calibration on held-out text
    python evaluate_SE.py runs/first --pairs blimp/ --scores discriminator     the one-pass score alone
    python evaluate_SE.py runs/tuned --task_file tasks.yaml --data_dir data/   a run of finetune_SE.py

The folder of --spelling has dev/ and test/; sets in them whose correct.txt is clean text are corrected too,
the first --correction_rows lines of each. A fine-tuned model is tried on dev and test of each task.
"""

from argument import EvaluateArgs
from span_electra.commandline import parse, run_script


def main() -> None:
    settings = parse(EvaluateArgs, __doc__)
    from span_electra.evaluation.stage import evaluate
    from span_electra.evaluation.tasks import evaluate_tasks

    # As each part is done: the next may take an hour.
    for text in (evaluate_tasks if settings.task_file else evaluate)(settings):
        print(text, flush=True)


if __name__ == "__main__":
    run_script(main)
