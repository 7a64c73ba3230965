"""A task file -> <encoder>_prepared_data/: token ids of every row of every task, with the label maps.

Reads the tasks' files below --data_dir and the vocabulary of the encoder; writes JSON lines that
finetune_SE.py takes as its --data_dir. (finetune_SE.py prepares by itself what is not prepared.)

    python prepare_tasks_SE.py --task_file examples/sentiment.yaml --data_dir examples/data \\
        --encoder runs/first
"""

from argument import PrepareArgs
from span_electra.commandline import parse, run_script


def main() -> int:
    settings = parse(PrepareArgs, __doc__)
    from span_electra.finetuning.stage import prepare

    return prepare(settings)


if __name__ == "__main__":
    run_script(main)
