"""Lines of text -> what a trained model makes of them.

Reads a run folder of joint_train_span_electra.py, an exported ELECTRA, or a run of finetune_SE.py, and lines
from a file, from standard input, or as you type them. Writes one answer for each line, in order: text on a
terminal and for correct, JSON lines else.

    python predict_SE.py runs/first --task fill           what belongs in each [MASK], also several in a row
    python predict_SE.py runs/first --task detect         which words look wrong
    echo "Teh cat sat." | python predict_SE.py runs/first --task correct
    python predict_SE.py runs/first --task embed --in_file lines.txt --out_file vectors.npy
    python predict_SE.py runs/first --serve               a page to type into; for fine-tuned runs too

    python predict_SE.py runs/finetune-1                  all tasks of a fine-tuned run that can read the line
    python predict_SE.py runs/finetune-1 --task mrpc      one of them; a TAB parts the texts of a pair
    python predict_SE.py --talk                           a conversation

From Python: span_electra.inference.predictor.Predictor for pretrained models, for fine-tuned ones
span_electra.inference.tasks.TaskPredictor: `TaskPredictor.from_folder(run)(texts, tasks)`.
"""

from contextlib import nullcontext

from argument import PredictArgs
from span_electra import progress
from span_electra.commandline import parse, run_script


def main() -> None:
    given: list[str] = []  # names of flags
    settings = parse(PredictArgs, __doc__, stack=lambda flags, layers: given.extend(flags) or layers)
    from span_electra.hub.runs import is_finetuned, newest_run

    # Who waits for a person has nothing to say meanwhile.
    with progress.saying(progress.silent) if settings.talk or settings.serve else nullcontext():
        if settings.talk:
            with_tasks(settings, settings.model, given)
            return
        model = settings.model or newest_run()
        (with_tasks if is_finetuned(model) else without_tasks)(settings, model, given)


def without_tasks(settings: PredictArgs, model: str, given: list[str]) -> None:
    """What a pretrained model can do."""
    from span_electra.inference.arguments import refuse_unread
    from span_electra.inference.lines import TASKS, one_task, predict
    from span_electra.inference.predictor import Predictor

    task, top_k = one_task(settings.task), settings.top_k or 5
    refuse_unread(given, TASKS if settings.serve else [task])
    predictor = Predictor.from_folder(model, device=settings.device, batch_size=settings.batch_size)
    if settings.serve:
        from span_electra.inference.playground import pretrained_content, serve

        content = pretrained_content(predictor, str(model), threshold=settings.threshold, top_k=top_k)
        serve(content, host=settings.host, port=settings.port)
        return
    predict(
        predictor,
        task,
        in_file=settings.in_file,
        out_file=settings.out_file,
        output=settings.output,
        threshold=settings.threshold,
        top_k=top_k,
    )


def with_tasks(settings: PredictArgs, model: str | None, given: list[str]) -> None:
    """What a fine-tuned run can do."""
    from span_electra.hub.runs import newest_talker
    from span_electra.inference.arguments import GenerationArguments, refuse_unread
    from span_electra.inference.chat import talk
    from span_electra.inference.task_lines import predict_lines
    from span_electra.inference.tasks import TaskPredictor

    predictor = TaskPredictor.from_folder(
        model or newest_talker(),
        device=settings.device,
        batch_size=settings.batch_size,
        threshold=settings.threshold,
        speech=GenerationArguments.of(settings),
    )
    types = {predictor.specs[number].type.name for number in predictor.numbers_of(settings.task)}
    refuse_unread(given, ["Conversation"] if settings.talk else types)
    if settings.serve:
        from span_electra.inference.playground import serve, task_content

        serve(task_content(predictor, str(model)), host=settings.host, port=settings.port)
    elif settings.talk:
        talk(predictor.talker(settings.task))
    else:
        predict_lines(
            predictor,
            settings.task,
            in_file=settings.in_file,
            out_file=settings.out_file,
            output=settings.output,
        )


if __name__ == "__main__":
    run_script(main)
