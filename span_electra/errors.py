"""The one exception a user can mend: scripts print its text in one line and exit with code 2."""


class InputError(ValueError):
    """Bad input: a file, a value or a combination of settings.

    The message is one line that names the file or the value and the way out, for example
    `data/valid.txt: line 17 is not UTF-8 (byte 0xff at 4); convert the file or use --errors replace`.
    """
