"""`python -m orchestrator …` is `layerwise …`."""

import sys

if __name__ == "__main__":
    # Python put the working folder first. A file there would replace the module of the standard
    # library with the same name; sweeps add the folder at a better place.
    folder = sys.path.pop(0)
    try:
        from orchestrator.cli import main
    except ModuleNotFoundError:  # the working folder is where layerwise lies
        sys.path.append(folder)
        from orchestrator.cli import main

    main()
