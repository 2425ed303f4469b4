import json

import pytest

from studio.models.catalogue import CATALOGUE, entries
from studio.models.facts import ModelFacts
from studio.models.remote import is_hub_id

MODELS = json.loads(CATALOGUE.read_text(encoding="utf-8"))["models"]
UNITS = {"M": 10**6, "B": 10**9}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["id"])
def test_each_count_is_the_published_one(model: dict[str, object]) -> None:
    published = str(model["published"])
    facts = ModelFacts.from_config(model["config"])  # type: ignore[arg-type]
    stored = facts.num_parameters + (facts.vocab_size * facts.hidden_size if model.get("stores_tied_head") else 0)
    # The hub prints three significant digits.
    assert f"{stored:.3g}" == f"{float(published[:-1]) * UNITS[published[-1]]:.3g}"
    assert not facts.is_guess


def test_the_catalogue_covers_every_size_of_card() -> None:
    found = entries()
    sizes = [entry.facts.num_parameters for entry in found]
    assert sizes == sorted(sizes)
    assert sizes[0] < 2e8
    assert sizes[-1] > 7e10
    assert len({entry.hub_id for entry in found}) == len(found) >= 25
    assert all(is_hub_id(entry.hub_id) and entry.licence for entry in found)
