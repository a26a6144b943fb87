"""What is installed, compared with the lowest versions that the package declares."""

from importlib import metadata

from slugkit.base.errors import OldPackageError


def too_old(name: str = "slugkit") -> list[str]:
    """What a package needs and is missing or older than it declares: a text each, with versions.

    Read from its metadata; a package that is not installed declares nothing.
    """
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(text) for text in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        return []
    found = []
    for need in declared:
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            here = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            found.append(f"{need.name} is missing ({need.specifier or 'any version'} was expected)")
            continue
        if not need.specifier.contains(here, prereleases=True):
            found.append(f"{need.name} is {here} ({need.specifier} was expected)")
    return found


def require_versions() -> None:
    """Raise OldPackageError where packages are missing or older than slugkit declares."""
    found = too_old()
    if found:
        raise OldPackageError(
            f"This environment does not do: {'; '.join(found)}. Older ones load and then "
            "misbehave. Run `pip install -e .` again in this environment, or `make env`."
        )
