#!/usr/bin/env bash
# From a fresh clone to a trained, exported SpanELECTRA: environment, vocabulary, features, training.
# Run again, it finds each stage's work done, or goes on where it was stopped. It never deletes. It takes no arguments.
set -euo pipefail
cd "$(dirname "$0")"

run=runs/tiny features=features/tiny
refuse() { echo "error: $1" >&2; exit 2; }
# Before anything is made: a vocabulary of other text than what is trained on would stay.
[ $# -eq 0 ] || refuse "./run.sh takes no arguments, and was given: $*; the scripts do (README.md, \"Your own text\")"
if compgen -G "data/*" > /dev/null && [ ! -e data/train.txt ] && [ ! -e "$features/train.arrow" ]; then
    stages="python create_vocab_SE.py && python create_feature_SE.py && python joint_train_span_electra.py"
    refuse "data/ holds no train.txt, which ./run.sh trains on; name your text so, or: . ./environment.sh requirements.txt && $stages"
fi

. ./environment.sh requirements.txt
# By the clock: three epochs take six minutes where bf16 is fast, and some ten where it is not.
training() {  # the command that trains into a folder
    train=(python joint_train_span_electra.py --preset tiny --max_minutes 5.5 --by_clock)
    train+=(--train_file "$features/train.arrow" --out_dir "$1")
    # Without such a file the trainer holds rows out. One that is left of a text no more in data/ is not of this.
    if [ -e "$features/valid.arrow" ] && { [ -e data/valid.txt ] || [ ! -e data/train.txt ]; }; then
        train+=(--valid_file "$features/valid.arrow")
    fi
}

if grep -qs '"state": "finished"' "$run/run.json" && [ -d "$run/discriminator" ]; then
    training "$run-2"
    cat <<EOF
done already: $run/ holds report.html and networks trained on $features/, made of what data/ held then.
To train on other text, move vocab/ and $run/ away and run this again; to train anew on $features/:
    . .venv/bin/activate
    ${train[*]}
EOF
    exit 0
fi
# create_vocab_SE.py makes the default corpus where data/ is empty; your own text there must be train.txt and, if
# you hold some out yourself, valid.txt.
if ! compgen -G "vocab/*-vocab.*" > /dev/null; then
    python create_vocab_SE.py
else
    echo "taking the vocabulary in vocab/; to have one of other text, move it away first"
fi
stopped() { compgen -G "$run/checkpoints/step-*" > /dev/null; }
# Rows of 128 tokens: attention over 512 would be half of so small a model's work. Called each time: the stage itself
# knows what is made already. A run that goes on keeps its features, whatever data/ holds by now.
for split in train valid; do
    if [ -e "data/$split.txt" ] && ! { stopped && [ -e "$features/$split.arrow" ]; }; then
        python create_feature_SE.py --in_file "data/$split.txt" --out_file "$features/$split.arrow" --max_seq_len 128
    fi
done
if stopped; then
    echo "$run/ was stopped before its end; going on with it; to train on other text, move it and vocab/ away first"
    python joint_train_span_electra.py --resume "$run"
else
    training "$run"
    "${train[@]}"
fi
cat <<EOF

next: ./test.sh runs the tests. For your own text name its folder; every stage prints the command of the next:
    . .venv/bin/activate
    python create_vocab_SE.py --data_dir "my text" --out_dir vocab-mine
EOF
