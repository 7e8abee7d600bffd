"""The one error that stands for a mistake in what the user supplied."""


class InputError(ValueError):
    """Something the user gave cannot be used: a file, a value, a folder.

    Its text names the file or argument, the value, and the remedy, on one line where it can. The command line prints it without
    a traceback; everything else that is raised is a defect of softscribe and keeps its traceback.

    >>> str(InputError("song.wav: 0.2 s long, at least 1 s is needed. Remedy: leave it out of the corpus."))
    'song.wav: 0.2 s long, at least 1 s is needed. Remedy: leave it out of the corpus.'
    """
