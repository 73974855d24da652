"""`python -m moodring.cli` is the `moodring` command."""

import sys

from moodring.cli import main

if __name__ == "__main__":
    sys.exit(main())
