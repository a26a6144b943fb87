"""Every error slugkit raises on purpose: what happened - what was expected - what to do.

The command line prints it as one line, a notebook shows it at the end of the traceback.
"""

import re

GOES_ON = "the same command then goes on where it stopped."
ADVICE = {
    "No space left|Disk quota exceeded": (
        f"The disk is full. Make room, or let SLUGKIT_RUNS name a folder on another disk; {GOES_ON}"
    ),
    "Read-only file system|Permission denied|Operation not permitted|Not a directory": (
        "Nothing can be written there. Let SLUGKIT_RUNS name a folder of your own, or mend its "
        "permissions."
    ),
    "MemoryError|OutOfMemoryError|out of memory|allocate memory": (
        "Memory ran out. Take a smaller batch_size or chunk, fewer workers, or a machine with more;"
        f" {GOES_ON}"
    ),
}
"""Words by which troubles are known that are not slugkit's -> what to do about them."""


def advice_on(said: str) -> str:
    """What to do about an error, of which `said` is kind and text, of the machine; "" otherwise."""
    return next((advice for words, advice in ADVICE.items() if re.search(words, said)), "")


class SlugError(Exception):
    """Root of all errors that slugkit raises on purpose; its text is meant for the reader."""


class SettingError(SlugError):
    """A setting has an unknown name, a wrong type or a value outside its range."""


class UnknownConceptError(SlugError):
    """The concept is not one of the names that the chosen data knows."""


class MissingArtefactError(SlugError):
    """A file that an earlier notebook leaves is not in the run folder."""


class StaleArtefactError(SlugError):
    """A file of the run folder no longer belongs to the present settings or inputs."""


class EmptySetError(SlugError):
    """A set of pairs (forget, retain, search, report) has no members, or fewer than are needed."""


class AllLeftOutError(EmptySetError):
    """A set is empty because every pair that it could hold was left out, for a named reason."""


class UnreadableImagesError(SlugError):
    """Pictures that a set refers to cannot be opened."""


class GradientError(SlugError):
    """A gradient is missing, not finite, or zero where it must not be."""


class SearchFailedError(SlugError):
    """No step of the search made the model forget the concept."""


class PatchError(SlugError):
    """A patch file is broken, or does not belong to the model at hand; nothing was changed."""


class ModelLoadError(SlugError):
    """A model cannot be loaded; nothing was changed."""


class MemoryPlanError(SlugError):
    """What a computation needs does not fit into the memory that is there; nothing was started."""


class ShapeError(SlugError, ValueError):
    """Two tensors that must have the same shape differ in it."""


class ZeroWeightError(SlugError, ValueError):
    """A weight has norm zero where a ratio to that norm was asked for."""


class RunFailedError(SlugError):
    """A notebook of a series or a task of a sweep stopped before its end; it is not counted as
    done.
    """


class CheckFailed(SlugError):
    """A check of a notebook or of an exercise did not hold."""


class OldPackageError(SlugError):
    """A package that slugkit needs is older than it declares, or missing; nothing was run."""
