"""Files of squall's own that are there whole or not at all, and the documents in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from squall.core.errors import StoreFileError

T = TypeVar("T")


def misfit(error: ValidationError) -> str:
    """What does not fit, and where in the document: the first of it, in a line."""
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    place = ".".join(str(part) for part in first["loc"])
    more = f", and {len(others)} more" if others else ""
    return f"{place}: {first['msg']}{more}" if place else f"{first['msg']}{more}"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make the file under another name, and rename it. Raises StoreFileError when it cannot be written."""
    temporary = path.with_name(f"{path.name}.tmp-0")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise StoreFileError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_document(path: Path, adapter: TypeAdapter[T], document: T) -> None:
    """Write it as JSON. Raises StoreFileError when it cannot be written."""
    write_whole(path, lambda temporary: temporary.write_bytes(adapter.dump_json(document, indent=2) + b"\n"))


def read_document(path: Path, adapter: TypeAdapter[T], what: str) -> T:
    """Read one. Raises StoreFileError when it is missing, or is not `what` is named: "a verdict that squall wrote"."""
    try:
        return adapter.validate_json(path.read_bytes())
    except OSError as error:
        raise StoreFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValidationError as error:
        raise StoreFileError(f"{path}: is not {what} ({misfit(error)})") from error
