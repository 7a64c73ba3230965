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
other_text='import sys; from span_electra.features.header import of_other_text; sys.exit(3 * of_other_text(*sys.argv[1:]))'
check_text() {  # what was made of other text would be trained on, with its vocabulary, without a word
    local split code
    for split in train valid; do
        if [ ! -e data/train.txt ] || [ ! -e "$features/$split.arrow" ]; then continue; fi
        code=0
        if [ -e "data/$split.txt" ]; then
            python -c "$other_text" "$features/$split.arrow" "data/$split.txt" || code=$?
        else
            code=3
        fi
        [ "$code" -ne 3 ] || refuse "$features/$split.arrow: is not of the text that data/ holds now; to begin with that, move $features/, vocab/ and $run/ away (those that there are)"
    done
}
check_text
state() { python -c 'import json, sys; print(json.load(open(sys.argv[1]))["state"])' "$run/run.json" 2>/dev/null; }
training() {  # the command that trains into a folder
    train=(python joint_train_span_electra.py --preset tiny --train_file "$features/train.arrow" --out_dir "$1")
    # Without such a file the trainer holds rows out.
    [ ! -e "$features/valid.arrow" ] || train+=(--valid_file "$features/valid.arrow")
}

if [ "$(state)" = finished ] && [ -d "$run/discriminator" ]; then
    training "$run-2"
    cat <<EOF
done already: $run/ holds the trained networks and report.html. To train anew:
    . .venv/bin/activate
    ${train[*]}
EOF
    exit 0
fi
# create_vocab_SE.py makes the default corpus where data/ is empty; your own text there must be train.txt and, if
# you hold some out yourself, valid.txt.
if ! compgen -G "vocab/*-vocab.*" > /dev/null; then
    python create_vocab_SE.py
    check_text
elif [ ! -e "$features/train.arrow" ]; then
    echo "taking the vocabulary in vocab/; to have one of this text, move it away first"
fi
# Rows of 128 tokens: attention over 512 would be half of so small a model's work. Called each time: the stage itself
# knows what is made already.
for split in train valid; do
    if [ -e "data/$split.txt" ]; then
        python create_feature_SE.py --in_file "data/$split.txt" --out_file "$features/$split.arrow" --max_seq_len 128
    fi
done
if compgen -G "$run/checkpoints/step-*" > /dev/null; then
    echo "$run/ was stopped before its end; going on with it"
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
