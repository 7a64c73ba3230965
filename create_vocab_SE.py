"""Text -> vocabulary: byte-level BPE, or BERT's WordPiece.

Reads the text files of a folder (hidden ones are passed over). Where none is named and data/ is absent or
empty, the default corpus is made there first: documentation strings of the Python packages on this machine.
Writes '<model_name> BPE-vocab.json' and '<model_name> BPE-merges.txt', or '<model_name> BERT-vocab.txt' and
'<model_name> BERT tokenizer.json' (its rules); a preview for the eye; and a tokenizer.json, so that
transformers' AutoTokenizer opens the folder.

    python create_vocab_SE.py                                      data/ -> vocab/
    python create_vocab_SE.py --data_dir "my text" --tokenizer_type BERT --vocab_size 30000
"""

import time

from argument import VocabularyArgs
from span_electra.commandline import parse, run_script


def main() -> None:
    settings = parse(VocabularyArgs, __doc__)
    from span_electra.console import command_line
    from span_electra.data_config import TextConfig, VocabularyConfig
    from span_electra.text.default_files import after_vocabulary, has_text
    from span_electra.text.sample import write_sample
    from span_electra.text.vocabulary_builder import build_vocabulary

    started = time.perf_counter()
    # Only the default place is filled unasked; a folder that was named must hold its own text.
    if settings.data_dir == VocabularyArgs().data_dir and not has_text(settings.data_dir):
        print(f"{settings.data_dir}/: no text there; making the default corpus, the prose in Python packages")
        print(f"{settings.data_dir}/: {write_sample(settings.data_dir)}")
    print(f"vocabulary: reading {settings.data_dir}")
    vocabulary, files, notes = build_vocabulary(
        settings.data_dir, settings.out_dir, settings.model_name, VocabularyConfig.of(settings)
    )
    for note in notes:
        print(f"note: {note}")
    size = f"{vocabulary.size:,} tokens, {vocabulary.sha256[:12]}"
    print(f"vocabulary: {size}, in {time.perf_counter() - started:.0f} s -> {', '.join(map(str, files))}")
    words = after_vocabulary(files[0], settings.data_dir, TextConfig.of(settings))
    print(f"next: {command_line('create_feature_SE', *words)}")


if __name__ == "__main__":
    run_script(main)
