"""The `memsweep` command; also `python -m memsweep`."""

import sys

from memsweep._memsweep import command


def main() -> int:
    return command(["memsweep", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
