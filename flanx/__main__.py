"""`python -m flanx`: the same as the `flanx` command."""

import sys

from flanx.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
