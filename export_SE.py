"""A checkpoint -> stock transformers folders: generator/ and discriminator/, or a folder for each task.

Training exports its last state by itself; this does it for any other checkpoint, of pretraining or of
fine-tuning (conversation models too). Of a run of fine-tuning its best checkpoint is taken.

    python export_SE.py runs/mine --out_dir exported
    python export_SE.py ... --license apache-2.0 --language en --push_to_hub me/mine --dry_run
    python export_SE.py runs/mood --out_dir exported                            exported/<task>/
"""

from pathlib import Path

from argument import ExportArgs
from span_electra.commandline import parse, run_script


def main() -> None:
    settings = parse(ExportArgs, __doc__)
    from span_electra.errors import InputError
    from span_electra.finetuning.export import export_tasks
    from span_electra.finetuning.task_model import load_task_model
    from span_electra.hub.model_card import CardFacts, check_facts
    from span_electra.hub.push import check_names, push_folders
    from span_electra.hub.runs import is_finetuned
    from span_electra.hub.weights import PARTS
    from span_electra.pretraining.stage import export, prediction_command

    for name in ("checkpoint_path", "out_dir"):
        if getattr(settings, name) is None:
            raise InputError(f"--{name}: is needed; see export_SE.py --help")
    facts = CardFacts(settings.license, settings.language, settings.datasets, settings.base_model)
    check_facts(facts)
    checkpoint, out_dir = settings.checkpoint_path, Path(settings.out_dir)
    tuned = load_task_model(checkpoint) if is_finetuned(checkpoint) else None
    if settings.push_to_hub:  # before anything is written
        check_names(settings.push_to_hub, [spec.task.name for spec in tuned.specs] if tuned else PARTS)
    folders = export_tasks(tuned, out_dir, facts) if tuned else export(checkpoint, out_dir, facts)
    for folder in folders:
        print(folder)
    if not tuned:
        print(f"next: {prediction_command(out_dir)}")
    if settings.push_to_hub:
        print("\n".join(push_folders(folders, settings.push_to_hub, dry_run=settings.dry_run)))


if __name__ == "__main__":
    run_script(main)
