"""What a user can mend: scripts print the text of such an error in one line and exit with code 2.

A warning is a line too, of one process.
"""

import warnings


class InputError(ValueError):
    """Bad input: a file, a value or a combination of settings.

    The message is one line that names the file or the value and the way out, for example
    `data/valid.txt: line 17 is not UTF-8 (byte 0xff at 4); convert the file or use --errors replace`.
    """


def said_of(error: OSError) -> str:
    """An error of the system in a line: the disk, a permission, a path; it names the file."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; mend that and run again"


def reason_of(error: BaseException, most: int = 200) -> str:
    """Why something failed, in a line: the first of the message that says anything, else the error's type.

    most: characters. Example: torch's "\\nno compiler\\n\\nSet TORCH_LOGS=..." -> "no compiler"
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:most]


def show_warnings(*, aloud: bool) -> None:
    """From now on a warning of this process is one line, or, of others beside the one that speaks, none."""
    # Users cannot mend the line of our code that Python would show.
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    if not aloud:
        warnings.simplefilter("ignore")
