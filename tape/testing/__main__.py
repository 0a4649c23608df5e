"""Run the conformance checks: `python -m tape.testing --kind KIND [--overwrite] /dev/sgN ...`.

Changers are checked with a cartridge that is carried to a free slot and back; drives only with --overwrite,
for what is on the loaded cartridge is lost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from tape.errors import TapeError
from tape.sg import SgTransport
from tape.testing import KINDS
from tape.testing.suite import FAILED, OVERWRITING, run
from tape.transport import Transport

__all__ = ["main"]


def main(
    arguments: Sequence[str] | None = None,
    open_transport: Callable[[str], Transport] = SgTransport,
) -> int:
    """Print a line for each check of each node; return 0, or 1 if one failed or a node cannot be asked.

    Args:
        arguments: the command line's if None.
        open_transport: how to reach a node; tests pass a library of their own.

    """
    parser = argparse.ArgumentParser(prog="python -m tape.testing", description="Check drives and changers.")
    parser.add_argument("--kind", choices=sorted(KINDS), required=True, help="what kind of library it is")
    parser.add_argument("--overwrite", action="store_true", help="lose what is on the loaded cartridges")
    parser.add_argument("nodes", nargs="+", metavar="NODE")
    options = parser.parse_args(arguments)
    without = (
        {} if options.overwrite else dict.fromkeys(OVERWRITING, "overwrites the cartridge: say --overwrite")
    )
    failed = False
    for node in options.nodes:
        try:
            with open_transport(node) as transport:
                found = run(transport, KINDS[options.kind], without)
        except TapeError as error:
            sys.stderr.write(f"{error}\n")
            failed = True
            continue
        for name, (outcome, why) in found.items():
            sys.stdout.write(f"{node}  {outcome:<7}  {name}  {why}".rstrip() + "\n")
            failed = failed or outcome == FAILED
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
