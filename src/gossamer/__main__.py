"""``python -m gossamer``: the same as ``gossamer``, and what torchrun starts."""

from gossamer.cli.main import main

if __name__ == "__main__":
    main()
