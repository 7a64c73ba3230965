"""Lines go to standard output, notes to standard error, nothing where it is silent.

Run: pytest tests/features/test_progress.py
"""

from span_electra.features.progress import Speaker


def test_aloud_or_silent(capsys):
    for aloud in (True, False):
        say = Speaker(aloud)
        say.line("done")
        say.note("by the way")
        with say.bar(100) as bar:
            bar.done(60, 5)
            bar.done(40, 5)
        out, err = capsys.readouterr()
        assert out == ("done\n" if aloud else "")
        assert err.startswith("note: by the way\n") if aloud else not err
