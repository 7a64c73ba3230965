"""Text + vocabulary -> features: rows of token ids with geometric span masks.

Reads text files (.txt .jsonl .tsv .parquet, also .gz .bz2 .xz .zst), folders, globs or data sets (hf:NAME),
and a vocabulary.
Writes one Arrow file, memory-mapped by the trainer and open to pyarrow, polars and datasets.

    python create_feature_SE.py --workers 2                      every split in data/, into features/
    python create_feature_SE.py --in_file "my text/valid.txt"    that file, into features/valid.arrow
    python create_feature_SE.py --in_file "my text" --out_file train.arrow \\
        --vocab_file "vocab/trial BPE-vocab.json" --max_seq_len 128
    python create_feature_SE.py --tokenizer my-model/ ...        with a tokenizer of your own
    python create_feature_SE.py --inspect features/train.arrow   what is in it, with the spans coloured
"""

from argument import FeatureArgs
from span_electra.commandline import parse, run_script


def main() -> None:
    settings = parse(FeatureArgs, __doc__)
    if settings.inspect:
        from span_electra.features.preview import describe

        print(describe(settings.inspect))
        return
    from span_electra.config import ModelConfig
    from span_electra.console import command_line
    from span_electra.data_config import ChunkConfig, MaskingConfig, TextConfig
    from span_electra.features.build import build_features
    from span_electra.features.header import wanted_features
    from span_electra.features.store import of_vocabulary
    from span_electra.text.default_files import (
        after_features,
        choose_vocabulary,
        plan_features,
        splits_beside,
    )
    from span_electra.text.inputs import is_url

    vocabulary = choose_vocabulary(settings)
    outputs, notes = plan_features(settings.in_file, settings.out_file, settings.text_field)
    for note in notes:
        print(f"note: {note}")
    wanted = wanted_features(
        vocabulary,
        ChunkConfig.of(settings),
        MaskingConfig.of(settings),
        seed=settings.seed,
        chunk_size=settings.chunk_size,
        reading=TextConfig.of(settings),
    )
    for out_file, inputs in outputs.items():
        build_features(
            inputs,
            vocabulary,
            out_file,
            wanted,
            workers=settings.workers,
            shards=settings.shards,
            engine=settings.engine,
        )
    if not any(map(is_url, outputs)):  # the trainer maps files
        unfit = [path for path in splits_beside(outputs) if not of_vocabulary(path, vocabulary.sha256)]
        for path in unfit:
            print(f"note: {path}: of another vocabulary, or damaged; make it anew to train with it")
        most = ModelConfig().max_position_embeddings
        words = after_features(outputs, settings.max_seq_len, most, unfit)
        if words is not None:
            print(f"next: {command_line('joint_train_span_electra', *words)}")


if __name__ == "__main__":
    run_script(main)
