"""The one error that stands for a mistake in what the user supplied."""

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_TEXT = 2000


class InputError(ValueError):
    """Something the user gave cannot be used: a file, a value, a folder.

    Its text names the file or argument, the value, and the remedy, on one line where it can. The command line prints it without
    a traceback; everything else that is raised is a defect of softscribe and keeps its traceback. The text may quote a file that somebody
    else made: characters that a terminal would obey instead of showing are escaped, and the middle of a very long text is left out.

    >>> str(InputError("song.wav: 0.2 s long, at least 1 s is needed. Remedy: leave it out of the corpus."))
    'song.wav: 0.2 s long, at least 1 s is needed. Remedy: leave it out of the corpus.'
    >>> print(InputError("split is '\\x1b[2J'. Remedy: train."))
    split is '\\x1b[2J'. Remedy: train.
    """

    def __init__(self, text: str) -> None:
        super().__init__(shown(text))


def shown(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text from a file as it may be printed: what a terminal would obey is escaped, the middle of what is longer is left out.

    >>> print(shown("seed \\x1b[2J"), shown("abcdefgh", longest=4))
    seed \\x1b[2J ab [...] gh
    """
    if len(text) > longest:
        text = f"{text[: longest // 2]} [...] {text[-longest // 2 :]}"
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


@contextmanager
def concerning(what: object) -> Iterator[None]:
    """Put the name of a file or a segment before the text of any `InputError` inside.

    >>> with concerning("features/song.npy"):
    ...     raise InputError("NaN or infinity. Remedy: prepare it again.")
    Traceback (most recent call last):
        ...
    softscribe.errors.InputError: features/song.npy: NaN or infinity. Remedy: prepare it again.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
