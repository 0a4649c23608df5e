from __future__ import annotations

from pathlib import Path

import pytest

from appliance.schema import DocumentSchema, NewerSchemaError, SchemaError, kept_copy, newest_copy

SHELF = DocumentSchema(
    "shelf",
    3,
    {
        2: lambda old: {"books": [old["book"]]},
        3: lambda old: {"books": [{"title": title} for title in old["books"]]},
    },
)


def test_an_older_document_takes_all_steps() -> None:
    """Each step makes one number of the number before; the document given stays as it is."""
    old = {"schema": 1, "book": "Amphitryon"}
    assert SHELF.current(old, "shelf.json", "") == {"schema": 3, "books": [{"title": "Amphitryon"}]}
    assert old == {"schema": 1, "book": "Amphitryon"}
    new = {"schema": 3, "books": []}
    assert SHELF.current(new, "shelf.json", "") == new


def test_a_newer_document_is_refused_by_number() -> None:
    """The error names the file, both numbers and what to do."""
    wanted = r"shelf\.json: .*newer Spanreel.*shelf.*schema 4.*up to 3.*do this"
    with pytest.raises(NewerSchemaError, match=wanted):
        SHELF.current({"schema": 4, "libraries": {}}, "shelf.json", "do this")


@pytest.mark.parametrize(
    "document", [{}, {"schema": 0}, {"schema": "3"}, {"schema": True}, [], None, "schema"]
)
def test_without_a_number_it_is_none_of_ours(document: object) -> None:
    """Nothing is guessed of a document that does not say its form."""
    with pytest.raises(SchemaError, match="not a shelf"):
        SHELF.number(document, "shelf.json")


def test_the_newest_copy_that_can_be_read_is_found(tmp_path: Path) -> None:
    """Who must go back is shown the copy that lacks least."""
    path = tmp_path / "shelf.json"
    assert newest_copy(path, 3) is None
    for number in (1, 2, 4):
        kept_copy(path, number).touch()
    assert newest_copy(path, 3) == tmp_path / "shelf.json.schema2"
