"""`python -m orchestrator …` is `layerwise …`."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
