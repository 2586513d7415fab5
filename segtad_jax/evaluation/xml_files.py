"""Reads XML of strangers: nothing in it is expanded or fetched."""

import re
from os import PathLike
from xml.etree import ElementTree as ET

from segtad_jax.evaluation.json_files import InputError, read_text

_DECLARATION = re.compile(r"<!(DOCTYPE|ENTITY)", re.IGNORECASE)


def load_xml(path: str | PathLike[str]) -> ET.Element:
    """Returns the root element of a file in UTF-8.

    Raises:
        InputError: it is not XML, or declares a document type: entities, which can grow without
            limit or name other files, are declared there alone, and no annotation tool needs them.
    """
    text = read_text(path)
    if found := _DECLARATION.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise InputError(
            f"{path}, line {line}: has a {found[0][2:]} declaration, which is refused, for it can "
            "make the parser expand or read anything; annotation tools write none: remove it"
        )
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        line, place = error.position
        raise InputError(
            f"{path}: not XML (line {line}, column {place + 1}: {error.msg})"
        ) from error
