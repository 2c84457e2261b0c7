"""`python -m flanx`: the same as the `flanx` command."""

import sys

from flanx import child_process
from flanx.cli.main import main

if __name__ == "__main__":
    child_process.take_over()
    sys.exit(main())
