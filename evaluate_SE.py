"""A trained model -> numbers that mean something without fine-tuning.

Reads a run folder of joint_train_span_electra.py or an exported ELECTRA (generator/ and discriminator/, or
the folder of one stock network). Prints tables and writes evaluation.json into the run's folder, where
report_SE.py finds it; later calls add to it.

    python evaluate_SE.py runs/first --pairs blimp/           minimal pairs: .jsonl files or folders of them
    python evaluate_SE.py runs/first --spelling spelling/     spelling errors: found, by words and lines
    python evaluate_SE.py runs/first --text valid.txt         losses, F1, calibration on held-out text
    python evaluate_SE.py runs/first --pairs blimp/ --scores discriminator     the one-pass score alone

The folder of --spelling has dev/ and test/; sets in them whose correct.txt is clean text are corrected too,
the first 200 lines of each.
"""

import sys

from argument import EvaluateArgs
from span_electra.commandline import first_as, parse, run_script


def main() -> None:
    settings = parse(EvaluateArgs, __doc__, first_as("model", sys.argv[1:]))
    from span_electra.transfer.evaluate import evaluate
    from span_electra.transfer.networks import newest_run

    for text in evaluate(
        settings.model or newest_run(),
        settings.pairs,
        settings.spelling,
        settings.text,
        settings.scores,
        settings.batch_size,
        settings.max_seq_len,
        settings.device,
        settings.out_file,
    ):
        print(text, flush=True)


if __name__ == "__main__":
    run_script(main)
