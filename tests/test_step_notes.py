"""What is noted beside checkpoints, damaged: it makes no checkpoint somebody else's, and costs
none."""

import gc
import json
import shutil

import pytest
import tiny
from test_checkpoint import carry, left_behind
from test_checkpoint import made as made  # a fixture
from test_upgrades import NEWER, SAID, harm, kept

from kd_jax import jsons, waypoints
from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError


def flipped(folder, before, letters):
    """One bit of what is noted of step 2 differs, so many letters after some words."""
    path = folder / "steps.json"
    data = bytearray(path.read_bytes())
    at = data.index(before.encode(), data.index(b'"2": {')) + len(before) + letters - 1
    data[at] ^= 1
    path.write_bytes(data)
    assert json.loads(data)["1"]  # it is JSON as before


def restored(folder):
    """(step or None, the store) of what comes back."""
    store = Store(folder)
    store.check()
    found = store.restore(carry(0.0))
    store.close()
    assert found is None or not tiny.differences(found[1], carry(float(found[0])))
    return found and found[0], store


PLACES = {  # which letter after some words differs
    "form": ('"form": "', 3),
    "format": ('"format": ', 1),
    "a version": ('"kd_jax": "', 1),
    "the name of form": ('"for', 1),
    "the name of format": ('"f', 1),
    "the name of versions": ('"ver', 1),
    "its checksum": ('"checksum": "', 8),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("alone", [False, True])
def test_a_note_of_which_a_bit_differs_costs_no_checkpoint(made, place, alone):
    if alone:
        shutil.rmtree(made / "steps" / "1")
    flipped(made, *PLACES[place])
    before = kept(made)
    step, store = restored(made)
    assert (step, store.damaged, store.aside) == (2, [], {})
    assert kept(made) == before


@left_behind
@pytest.mark.parametrize("place", PLACES)
def test_where_the_arrays_are_damaged_as_well_the_checkpoint_before_is_taken(made, place):
    flipped(made, *PLACES[place])
    harm(made / "steps" / "2")
    step, store = restored(made)
    assert (step, store.damaged, store.aside) == (1, [2], {})
    assert not (made / "steps" / "2").exists()
    gc.collect()  # what Orbax left undone is told of here


@left_behind
@pytest.mark.parametrize("place", PLACES)
def test_the_only_checkpoint_is_set_aside_where_it_is_damaged_as_its_note_is(made, place):
    shutil.rmtree(made / "steps" / "1")
    flipped(made, *PLACES[place])
    harm(made / "steps" / "2")
    step, store = restored(made)
    assert (step, store.damaged) == (None, [2])
    assert (made / "steps" / "2.damaged" / "default").is_dir()
    gc.collect()


@left_behind
def test_two_damaged_notes_cost_no_checkpoint_either(made):
    """The newest one is damaged itself: the one before it, of which no more is known, is whole."""
    notes = json.loads((made / "steps.json").read_text())
    for note in notes.values():
        note["form"] = "7"
    (made / "steps.json").write_text(json.dumps(notes))
    assert restored(made)[0] == 2
    harm(made / "steps" / "2")
    step, store = restored(made)
    assert (step, store.damaged, store.aside) == (1, [2], {})
    gc.collect()


def test_what_goes_on_after_a_damaged_note_is_saved_and_read_as_ever(made):
    flipped(made, *PLACES["form"])
    store = Store(made)
    assert store.restore(carry(0.0))
    store.save(3, carry(3.0))
    store.close()
    step, store = restored(made)
    assert (step, store.damaged) == (3, [])


@pytest.mark.slow
def test_whatever_bit_of_the_notes_differs_no_checkpoint_is_refused(made):
    sound = (made / "steps.json").read_bytes()
    store, own = Store(made), waypoints._form(carry())
    damaged = 0
    for at in range(sound.index(b'"2"'), len(sound)):
        data = bytearray(sound)
        data[at] ^= 1
        (made / "steps.json").write_bytes(data)
        notes = [note for _, note in store._steps()]  # or it is of another format
        assert {note.get("form", own) for note in notes if note is not None} <= {own}
        damaged += None in notes
        if at % 17 == 0:
            assert restored(made)[0] == 2
    store.close()
    assert damaged > 50


def test_damaged_notes_hide_no_newer_format_behind_them(made):
    """The run is refused before it trains: the checkpoint that it would go on from."""
    newer = NEWER | {"form": "7"}
    notes = json.loads((made / "steps.json").read_text())
    notes["1"] = jsons.summed(newer)
    (made / "steps.json").write_text(json.dumps(notes))
    Store(made).check()  # it goes on from the one after it
    notes["2"]["form"] = "7"
    (made / "steps.json").write_text(json.dumps(notes))
    with pytest.raises(UsageError, match=f"^{made}/steps/1: {SAID}go on with that version, or"):
        Store(made).check()
    assert {path.name for path in (made / "steps").iterdir()} == {"1", "2"}


def test_notes_of_one_step_are_none_of_another(made):
    notes = json.loads((made / "steps.json").read_text())
    notes["2"] = notes["1"]
    (made / "steps.json").write_text(json.dumps(notes))
    step, store = restored(made)
    assert (step, store.damaged) == (2, [])


def test_notes_without_checksums_are_read_as_before(made):
    notes = json.loads((made / "steps.json").read_text())
    for note in notes.values():
        assert note.pop("checksum")
    (made / "steps.json").write_text(json.dumps(notes))
    step, store = restored(made)
    assert (step, store.damaged) == (2, [])
    notes["2"]["form"] = "another"
    (made / "steps.json").write_text(json.dumps(notes))
    with pytest.raises(UsageError, match=f"^{made}/steps/2: .* can't go on from this checkpoint"):
        Store(made).restore(carry())


@pytest.mark.parametrize("said", [None, 7, [], {}, "", "0" * 8, [[]] * 9])
def test_odd_checksums_are_damage(made, said):
    notes = json.loads((made / "steps.json").read_text())
    notes["2"]["checksum"] = said
    (made / "steps.json").write_text(json.dumps(notes))
    step, store = restored(made)
    assert (step, store.damaged) == (2, [])


@pytest.mark.parametrize("depth", [900, 5_000, 50_000, 500_000])
def test_notes_may_be_nested_deeply(made, depth):
    deep = "[" * depth + "]" * depth
    (made / "steps.json").write_text(f'{{"2": {{"checksum": "1", "form": {deep}}}}}')
    Store(made).check()
