"""Features + config -> a trained SpanELECTRA: generator and discriminator, exported for transformers.

Reads a feature file (or raw text, with --raw_text_dir) and a config. Writes a run folder with the
settings, metrics, checkpoints, both exported networks and a report.

    python joint_train_span_electra.py                     features/, on the first GPU or the CPU
    python joint_train_span_electra.py --device_ids 0 1    on two GPUs
    python joint_train_span_electra.py --config_file configs/small.json --epochs 3 \\
        --train_file features/train.arrow --valid_file features/valid.arrow --out_dir runs/small
    python joint_train_span_electra.py --resume runs/small
"""

from argument import JointTrainingConfig
from span_electra.commandline import parse, run_script
from span_electra.compose import Layer
from span_electra.schema import Values


def main() -> int:
    from span_electra.pretraining.defaults import stack_layers
    from span_electra.pretraining.stage import pretrain

    named: list[str] = []

    def stack(given: Values, layers: list[Layer]) -> list[Layer]:
        named.extend(given)
        return stack_layers(given, layers)

    return pretrain(parse(JointTrainingConfig, __doc__, stack=stack), named)


if __name__ == "__main__":
    run_script(main)
