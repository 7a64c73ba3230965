"""A checkpoint -> generator/ and discriminator/ as stock transformers folders.

Training exports its last state by itself; this does it for any other checkpoint.

    python export_SE.py --checkpoint_path runs/mine/checkpoints/step-00001000 --out_dir exported
"""

from pathlib import Path

from argument import ExportArgs
from span_electra.commandline import parse, run_script


def main() -> None:
    settings = parse(ExportArgs, __doc__)
    from span_electra.errors import InputError
    from span_electra.pretraining.stage import export

    for name in ("checkpoint_path", "out_dir"):
        if getattr(settings, name) is None:
            raise InputError(f"--{name}: is needed; see export_SE.py --help")
    for folder in export(
        settings.checkpoint_path, Path(settings.out_dir), {"checkpoint": settings.checkpoint_path}
    ):
        print(folder)


if __name__ == "__main__":
    run_script(main)
