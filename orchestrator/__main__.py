"""The program: `layerwise …`, or `python -m orchestrator …`."""

import importlib.util
import sys

from orchestrator import signals


def main() -> None:
    """Run the command line, with the signals handled before anything heavy is imported."""
    with signals.handled():
        from orchestrator import cli

        cli.main()


if __name__ == "__main__":
    # Python put the working folder first. A file there would replace the module of the standard
    # library with the same name; sweeps add the folder at a better place.
    folder = sys.path.pop(0)
    if importlib.util.find_spec("trainers") is None:  # the working folder is where layerwise lies
        sys.path.append(folder)
    main()
