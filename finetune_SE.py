"""A pretrained encoder + a task file -> a model of all its tasks, tried on dev and test.

Reads the encoder (a run of joint_train_span_electra.py, an exported folder, or any ELECTRA of transformers)
and the tasks' files below --data_dir; writes the run's folder: checkpoints, metrics, TensorBoard, predictions
as TSV, results.json, and each task as a folder that transformers opens.

    python finetune_SE.py --encoder runs/first --task_file examples/sentiment.yaml --data_dir examples/data
    python finetune_SE.py ... --seeds 3                             mean and deviation over three seeds
    python finetune_SE.py --load_saved_model runs/x --resume_train          go on where it stopped
    python finetune_SE.py --load_saved_model runs/x --conclude              results of its best model so far
    python finetune_SE.py --load_saved_model runs/x --finetune --task_file t.yaml   its encoder, other tasks
"""

from argument import FinetuneArgs
from span_electra.commandline import parse, run_script


def main() -> int:
    from span_electra.finetuning.defaults import stack_layers

    settings = parse(FinetuneArgs, __doc__, stack=stack_layers)
    from span_electra.finetuning.stage import finetune

    return finetune(settings)


if __name__ == "__main__":
    run_script(main)
