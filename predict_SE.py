"""Lines of text -> what a trained model makes of them.

Reads a run folder of joint_train_span_electra.py or an exported ELECTRA, and lines from a file, from standard
input, or as you type them. Writes one answer for each line, in order: text on a terminal, JSON lines else.

    python predict_SE.py runs/first --task fill           what belongs in each [MASK], also several in a row
    python predict_SE.py runs/first --task detect         which words look wrong
    echo "Teh cat sat." | python predict_SE.py runs/first --task correct
    python predict_SE.py runs/first --task embed --in_file lines.txt --out_file vectors.npy
    python predict_SE.py runs/first --serve               a page to type into, http://127.0.0.1:8765
"""

import sys

from argument import PredictArgs
from span_electra.commandline import first_as, parse, run_script


def main() -> None:
    settings = parse(PredictArgs, __doc__, first_as("model", sys.argv[1:]))
    from span_electra.transfer.networks import newest_run
    from span_electra.transfer.predict import predict
    from span_electra.transfer.predictor import Predictor

    model = settings.model or newest_run()
    predictor = Predictor.from_folder(model, settings.device, settings.batch_size)
    if settings.serve:
        from span_electra.transfer.playground import serve

        serve(predictor, str(model), settings.threshold, settings.top_k, settings.host, settings.port)
        return
    predict(
        predictor,
        settings.task,
        settings.in_file,
        settings.out_file,
        settings.output,
        settings.threshold,
        settings.top_k,
    )


if __name__ == "__main__":
    run_script(main)
