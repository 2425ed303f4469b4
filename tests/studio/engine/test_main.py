"""The entry of the engine."""

import gc

from studio.engine import serve
from studio.engine.__main__ import main


def test_what_the_libraries_have_brought_is_not_looked_through_for_garbage_but_what_comes_later_is(
    tmp_path, monkeypatch
):
    gc.unfreeze()
    found = []
    monkeypatch.setattr(serve, "serve", lambda *_: found.append((gc.get_freeze_count() > 100_000, gc.isenabled())) or 0)
    assert main(["serve", "cpu", str(tmp_path)]) == 0
    assert found == [(True, True)]
