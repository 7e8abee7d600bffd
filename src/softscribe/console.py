"""Where tables and progress bars are shown."""

import rich.console


class Console(rich.console.Console):
    """Rich's, but that nobody reads any longer what is shown is an error like any other: rich would end the process, whatever it is at."""

    def on_broken_pipe(self) -> None:
        raise
