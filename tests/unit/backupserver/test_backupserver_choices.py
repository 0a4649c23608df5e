from __future__ import annotations

from dataclasses import replace

import pytest
from backupserver_support import file, received, store

from appliance.backupserver import history, jobs, media, nlist
from appliance.backupserver.backup import without_nested
from appliance.backupserver.catalogue import Catalogue
from appliance.backupserver.chooser import choose
from appliance.backupserver.library import drive_element, free_slot
from appliance.backupserver.media import Medium, MediumState, Segment
from appliance.backupserver.nlist import destination
from appliance.backupserver.restore import next_segment, recover_environment
from appliance.errors import ConfigurationError, InfrastructureError
from appliance.ndmp import messages as m
from appliance.ndmp.enums import ALL_ONES, MoverPauseReason
from appliance.ndmp.types import Name
from tape.changer import Inventory
from tape.elements import Element, ElementKind

WRITABLE = ("A", "B", "C", "D", "E")


def medium(barcode: str, last_file: int, state: MediumState = MediumState.APPENDABLE) -> Medium:
    """A cartridge with our label."""
    return Medium(barcode, f"uuid-{barcode}", "default", state, last_file)


def test_one_cartridge_is_filled_before_the_next() -> None:
    """A job goes on where the last one ended; a blank cartridge is the last resort."""
    known = {"B": medium("B", 2), "C": medium("C", 6)}
    assert choose(WRITABLE, WRITABLE, known, {}, None).candidates == ("C", "B", "A", "D", "E")


def test_what_is_in_the_drive_goes_first_among_equals() -> None:
    """Two moves are saved where it does not matter which cartridge it is."""
    assert choose(WRITABLE, WRITABLE, {}, {}, "D").candidates[0] == "D"
    known = {"B": medium("B", 2), "C": medium("C", 2)}
    assert choose(WRITABLE, WRITABLE, known, {}, "C").candidates[0] == "C"


def test_only_listed_cartridges_are_written() -> None:
    """A cartridge in the library, labelled or not, is left alone unless the configuration lists it."""
    choice = choose(("A",), ("A", "Z"), {"Z": medium("Z", 2)}, {}, "Z")
    assert choice.candidates == ("A",)


def test_every_refusal_has_its_reason() -> None:
    """When there is nothing to write to, one line tells why for each listed cartridge."""
    failed = replace(medium("D", 4, MediumState.FULL), fault="damaged behind tape file 4")
    known = {"A": medium("A", 4, MediumState.FULL), "D": failed}
    choice = choose(("A", "B", "C", "D"), ("A", "C", "D"), known, {"C": "job 9"}, None)
    assert choice.candidates == ()
    text = choice.explain({})
    assert "A is full" in text
    assert "D takes no more: damaged behind tape file 4" in text
    assert "B is not in the library" in text
    assert "C is in use by job 9" in text
    assert "\n" not in text
    assert "writable" in choose((), WRITABLE, {}, {}, None).explain({})


def element(kind: ElementKind, address: int, barcode: str | None = None, **more: object) -> Element:
    """A place in a library, full when it has a barcode."""
    return Element(kind, address, barcode is not None, barcode, **more)  # type: ignore[arg-type]


def test_drives_are_found_by_serial_number() -> None:
    """Order does not matter where the library tells serials, and is the fallback where it does not."""
    named = tuple(element(ElementKind.DRIVE, 256 + i, serial=s) for i, s in enumerate(["D2", "D1"]))
    assert drive_element(Inventory((), (), (), named), "D1", ["D1", "D2"]).address == 257
    silent = tuple(element(ElementKind.DRIVE, 256 + i) for i in range(2))
    assert drive_element(Inventory((), (), (), silent), "D2", ["D1", "D2"]).address == 257
    with pytest.raises(InfrastructureError, match="has no drive D3"):
        drive_element(Inventory((), (), (), named), "D3", ["D3"])


def test_a_cartridge_goes_home_if_it_can() -> None:
    """Its own slot is taken if it is free, else the first free one; with none there is a clear error."""
    slots = (element(ElementKind.SLOT, 1), element(ElementKind.SLOT, 2), element(ElementKind.SLOT, 3, "X"))
    inventory = Inventory((), slots, (), ())
    assert free_slot(inventory, element(ElementKind.DRIVE, 9, "Y", source=2)).address == 2
    assert free_slot(inventory, element(ElementKind.DRIVE, 9, "Y", source=3)).address == 1
    assert free_slot(inventory, element(ElementKind.DRIVE, 9, "Y")).address == 1
    with pytest.raises(InfrastructureError, match="no free slot"):
        free_slot(Inventory((), slots[2:], (), ()), element(ElementKind.DRIVE, 9, "Y", source=3))


@pytest.mark.parametrize(
    ("target", "asked", "to", "expected"),
    [
        (b"/a/b", b"/a/b", None, b"/a/b"),
        (b"/a/b", b"/a/b", b"/r", b"/r/b"),
        (b"/a/b", b"/a/b", b"/", b"/b"),
        (b"/", b"/", b"/r", b"/r"),
        (b"/", b"/", b"/", b"/"),
        (b"/a/b", b"/a", b"/r", b"/r/a/b"),
        (b"/a/b", b"/", b"/r", b"/r/a/b"),
        (b"/\xff", b"/\xff", b"/r s", b"/r s/\xff"),
    ],
)
def test_destinations(target: bytes, asked: bytes, to: bytes | None, expected: bytes) -> None:
    """PATH's last component appears in the directory, for / its children; without one, in place."""
    assert destination(target, asked, to) == expected


def test_nlist_of_a_whole_job(catalogue: Catalogue) -> None:
    """Without paths everything is asked for: original "" and all ones, as the draft has it."""
    image = store(catalogue, b"/", [b"/", b"/a"])
    job = jobs.get(catalogue, image.job)
    (part,) = nlist.plan(catalogue, job, [], b"/restored")
    assert part.names == (Name(b"", b"/restored", b"", b"", ALL_ONES, ALL_ONES),)
    assert nlist.plan(catalogue, job, [], None)[0].names[0].destination_path == b"/"


def test_nlist_of_paths(catalogue: Catalogue) -> None:
    """Originals are relative to the image's root; each path goes to the images that hold it."""
    job = jobs.create(catalogue, [b"/p", b"/q/r"], "fs1", 0)
    store(catalogue, b"/p", [b"/", b"/f"], job)
    store(catalogue, b"/q/r", [b"/", b"/g"], job)
    first, second = nlist.plan(catalogue, jobs.get(catalogue, job), [b"/p/f", b"/q"], b"/to")
    assert [(n.original_path, n.destination_path) for n in first.names] == [(b"/f", b"/to/f")]
    assert (first.names[0].node, first.names[0].fh_info) == (1, 0)
    assert [(n.original_path, n.destination_path) for n in second.names] == [(b"", b"/to/q/r")]


def test_missing_paths_are_named(catalogue: Catalogue) -> None:
    """A path the job does not hold is a usage error before any tape moves."""
    image = store(catalogue, b"/p", [b"/", b"/f"])
    job = jobs.get(catalogue, image.job)
    with pytest.raises(ConfigurationError, match=r"does not hold /x, /p/\\xff"):
        nlist.plan(catalogue, job, [b"/p/f", b"/x", b"/p/\xff"], None)


def test_nested_paths_are_saved_once() -> None:
    """`backup / /projects` is one image; a name that only begins alike is its own."""
    assert without_nested([b"/", b"/projects"]) == (b"/",)
    assert without_nested([b"/a/b", b"/a", b"/ab", b"/a"]) == (b"/a", b"/ab")


def pause(reason: MoverPauseReason, position: int = 0) -> m.NotifyMoverPausedPost:
    """The mover's word that it waits."""
    return m.NotifyMoverPausedPost(reason, position)


def test_restore_follows_the_segments() -> None:
    """At the end of a cartridge the next follows, a seek goes where it asks, the image's end is the end."""
    one, two, three = (Segment(i + 1, c, 2, i * 100, 100) for i, c in enumerate("ABC"))
    parts = [one, two, three]
    assert next_segment(parts, one, pause(MoverPauseReason.EOF)) is two
    assert next_segment(parts, one, pause(MoverPauseReason.SEEK, 100)) is two
    assert next_segment(parts, one, pause(MoverPauseReason.SEEK, 250)) is three
    assert next_segment(parts, three, pause(MoverPauseReason.SEEK, 20)) is one
    assert next_segment(parts, two, pause(MoverPauseReason.SEEK, 150)) is three
    assert next_segment(parts, three, pause(MoverPauseReason.SEEK, 300)) is None
    assert next_segment(parts, three, pause(MoverPauseReason.EOF)) is None


def test_recover_environment_is_what_the_backup_returned() -> None:
    """Everything goes back but our own totals, and EXISTING is the one of this restore."""
    stored = [
        (b"FILESYSTEM", b"/p"),
        (b"X", b"\xff"),
        (b"SPANREEL_STATUS", b"complete"),
        (b"EXISTING", b"keep"),
    ]
    values = [(pair.name, pair.value) for pair in recover_environment(stored, b"/p", "newer")]
    assert values == [(b"FILESYSTEM", b"/p"), (b"X", b"\xff"), (b"EXISTING", b"newer")]
    assert recover_environment([], b"/q", "keep")[0].value == b"/q"


def test_recover_environment_says_how_this_restore_is_done() -> None:
    """What another restore was told is not repeated; DIRECT and the announced second pass are this one's."""
    stored = [(b"DIRECT", b"n"), (b"RECURSIVE", b"n"), (b"SPANREEL_LOST_LINK", b"/l"), (b"FILESYSTEM", b"/")]
    values = recover_environment(stored, b"/", "keep", direct=True, second_pass=True)
    assert [(pair.name, pair.value) for pair in values] == [
        (b"FILESYSTEM", b"/"),
        (b"EXISTING", b"keep"),
        (b"DIRECT", b"y"),
        (b"SPANREEL_SECOND_PASS", b"y"),
    ]


def test_the_names_of_a_second_pass(catalogue: Catalogue) -> None:
    """Each lost link goes where each name that holds it would have put it, by its place; others are named."""
    job = jobs.create(catalogue, [b"/p"], "fs1", 0)
    image = media.add_image(catalogue, job, 1, b"/p", 1024)
    writer = history.HistoryWriter(catalogue.path, image.id, lambda text: pytest.fail(text.decode()))
    files = (file(b"/d/l", node=7, offset=512), file(b"/l", node=7, offset=512))
    writer.put(received(m.FhAddFilePost(files)))
    writer.finish()
    names = (Name(b"/d", b"/to/d"), Name(b"", b"/all"), Name(b"/l", b"/to/single"))
    part = nlist.Part(image, names, (b"/to/d", b"/all", b"/to/single"))
    again, unknown = nlist.second_pass(catalogue, part, [b"/d/l", b"/l", b"/d/l", b"/no"])
    assert unknown == [b"/no"]
    assert again.names == (
        Name(b"/d/l", b"/to/d/l", node=7, fh_info=512),
        Name(b"/d/l", b"/all/d/l", node=7, fh_info=512),
        Name(b"/l", b"/all/l", node=7, fh_info=512),
        Name(b"/l", b"/to/single", node=7, fh_info=512),
    )
    assert (again.first_place, part.first_place) == (512, None)


def test_media_of_a_dead_job_are_known_as_unfinished(catalogue: Catalogue) -> None:
    """The next job learns which cartridge has an end that nobody vouches for."""
    image = store(catalogue, b"/", [b"/"])
    media.add_medium(catalogue, "A", "u")
    media.begin_segment(catalogue, image, 1, "A", 2, 0)
    media.settle_unfinished(catalogue, "A", 2)
    settled = media.media(catalogue)["A"]
    assert (settled.unfinished, settled.last_file) == (None, 2)
