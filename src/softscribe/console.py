"""Where tables and progress bars are shown."""

from contextlib import suppress

import rich.console
import rich.progress


class Console(rich.console.Console):
    """Rich's, but that nobody reads any longer what is shown is an error like any other: rich would end the process, whatever it is at."""

    def on_broken_pipe(self) -> None:
        raise


class Progress(rich.progress.Progress):
    """Rich's, but that the bar cannot be drawn once more at its end takes no other error's place."""

    def stop(self) -> None:
        with suppress(OSError):
            super().stop()
