#!/usr/bin/env bash
# From a fresh clone to a trained, exported SpanELECTRA: environment, vocabulary, features, training.
# Run again, it finds each stage's work done, or goes on where it was stopped. It never deletes.
set -euo pipefail
cd "$(dirname "$0")"
. ./environment.sh requirements.txt

run=runs/tiny
state() { python -c 'import json, sys; print(json.load(open(sys.argv[1]))["state"])' "$run/run.json" 2>/dev/null; }

if [ "$(state)" = finished ] && [ -d "$run/discriminator" ]; then
    echo "done already: $run/ holds the trained networks and report.html; train anew with another --out_dir"
    exit 0
fi
# create_vocab_SE.py makes the default corpus where data/ is empty; your own text there must be train.txt and, if
# you hold some out yourself, valid.txt.
if ! compgen -G "vocab/*-vocab.*" > /dev/null; then
    python create_vocab_SE.py
fi
# Rows of 128 tokens: attention over 512 would be half of so small a model's work.
for split in train valid; do
    if [ -e "data/$split.txt" ] && [ ! -e "features/tiny/$split.arrow" ]; then
        python create_feature_SE.py --in_file "data/$split.txt" --out_file "features/tiny/$split.arrow" \
            --max_seq_len 128
    fi
done
if compgen -G "$run/checkpoints/step-*" > /dev/null; then
    echo "$run/ was stopped before its end; going on with it"
    python joint_train_span_electra.py --resume "$run"
else
    valid=features/tiny/valid.arrow
    [ -e "$valid" ] || valid=  # the trainer then holds rows out
    python joint_train_span_electra.py --preset tiny --train_file features/tiny/train.arrow \
        ${valid:+--valid_file "$valid"} --out_dir "$run"
fi
cat <<EOF

next: ./test.sh runs the tests. For your own text name its folder; every stage prints the command of the next:
    . .venv/bin/activate
    python create_vocab_SE.py --data_dir "my text" --out_dir vocab-mine
EOF
