"""Where the repository lies, whichever folder the tests are started from."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
