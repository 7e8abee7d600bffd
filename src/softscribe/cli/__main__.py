"""`python -m softscribe.cli` is `softscribe`."""

import sys

from softscribe.cli import main

if __name__ == "__main__":
    sys.exit(main())
