"""Where a cassette of some name lies: below its folder, whatever the name says; and where one may be written."""

import os
import re
from hashlib import sha256
from pathlib import Path

from llmbridge.errors import CassetteError
from llmbridge.stores.whole_file import check_writable

WRITTEN_SUFFIXES = (".yaml", ".yml", ".json")
"""Of the files that we write; those of other recorders have more."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DRIVE = re.compile(r"[A-Za-z]:")
# Also with an extension, and before blanks: "nul.yaml" is no file on Windows.
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?")
_UNUSABLE = re.compile(r'[<>:"|?*]')
_LONGEST_BYTES = 200
_KEPT_CHARACTERS = 40


def cassette_path(folder: str | os.PathLike[str], name: str) -> Path:
    """The file of this name, which may hold folders and brackets, as pytest's names do: `mod/test_a[x-1]`.

    Without .yaml, .yml or .json it gets .yaml. What Windows forbids becomes `-`; parts longer than 200 bytes end in a
    hash.

    Raises:
        CassetteError: the name leads out of the folder, here or on another system, or can be none of a file.
    """
    why = _objection(name)
    if why is not None:
        raise CassetteError(
            f"{name!r} is no name for a cassette: it {why}; give one such as 'mod/test_a'"
        )
    *folders, last = _UNUSABLE.sub("-", name).split("/")
    suffix = next((suffix for suffix in WRITTEN_SUFFIXES if last.endswith(suffix)), "")
    stem = last.removesuffix(suffix)
    path = Path(folder, *map(_short, folders), _short(stem) + (suffix or ".yaml"))
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        raise CassetteError(
            f"{name!r} leads out of {str(folder)!r} by a symbolic link: remove the link"
        )
    return path


def check_suffix(path: Path) -> None:
    """Refuse a file that a replay of its folder would not find.

    Raises:
        CassetteError: its name ends in another way.
    """
    if path.is_dir():
        raise CassetteError(
            f"{str(path)!r} is a folder: name a file in it, such as {str(path / 'session.yaml')!r}"
        )
    if not path.name.endswith(WRITTEN_SUFFIXES):
        raise CassetteError(
            f"{str(path)!r} cannot be written: recordings go into a file that ends in"
            f" {', '.join(WRITTEN_SUFFIXES)}: give {f'{path}.yaml'!r}"
        )


def check_place(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is asked for it; nothing is left there.

    Raises:
        CassetteError: its name ends in another way, or its folder cannot be made or takes no files.
    """
    check_suffix(path)
    check_writable(path)


def _objection(name: str) -> str | None:
    if not name:
        return "is empty"
    if _CONTROL.search(name):
        return "holds a control character"
    if "\\" in name:
        return "holds a backslash"
    if name.startswith("/") or _DRIVE.match(name):
        return "is an absolute path"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is no text"
    for part in name.split("/"):
        # Windows drops dots and blanks at the end, so "..." and ".. " lead upwards there.
        if not part.strip(". "):
            return "has a part of dots alone, or an empty one"
        if _DEVICE.fullmatch(part):
            return f"has the part {part!r}, which is a device on Windows"
    return None


def _short(part: str) -> str:
    part = part.rstrip(". ")
    if len(part.encode()) <= _LONGEST_BYTES:
        return part
    return f"{part[:_KEPT_CHARACTERS]}-{sha256(part.encode()).hexdigest()[:32]}"
