"""What is installed, compared with the lowest versions that the package declares."""

from importlib import metadata

from slugkit.base.errors import OldPackageError

EXTRAS = ("diffusion", "vlm", "data", "workbook")
"""What can be installed beside the core: `pip install "slugkit[diffusion]"`."""


def too_old(name: str = "slugkit", extras: tuple[str, ...] = ()) -> list[str]:
    """What a package and these of its extras need and is missing or older than its metadata says.

    Returns: A text each, with both versions; none for a package that is not installed.
    """
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(text) for text in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        return []
    found = {}
    for need in declared:
        if need.marker and not any(need.marker.evaluate({"extra": e}) for e in ("", *extras)):
            continue
        try:
            here = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            found[need.name] = f"missing ({need.specifier or 'any version'} was expected)"
            continue
        if not need.specifier.contains(here, prereleases=True):
            found[need.name] = f"{here} ({need.specifier} was expected)"
    return [f"{package} is {what}" for package, what in found.items()]


def require_versions() -> None:
    """Raise OldPackageError where packages are missing or older than the notebooks need."""
    if found := too_old(extras=EXTRAS):
        raise OldPackageError(
            f"This environment does not do: {'; '.join(found)}. Run `make env` again, or"
            " `pip install -e .[workbook,diffusion,vlm,data]`."
        )


def require_extra(extra: str, what: str) -> None:
    """Raise OldPackageError where `what` needs an extra of which a package is missing or old."""
    if found := too_old(extras=(extra,)):
        raise OldPackageError(
            f"{what} needs packages that are not all here: {'; '.join(found)}. Install them with"
            f' `pip install "slugkit[{extra}]"`.'
        )
