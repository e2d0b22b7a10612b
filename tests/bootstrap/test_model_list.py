from __future__ import annotations

import json

from bootstrap import state, weights
from mirrors.http import HttpSettings
from runtime.models import MODELS, model
from tests.conftest import Invoke


def test_all_models_are_listed_with_what_one_should_know(invoke: Invoke) -> None:
    weights.bring(state.home(), model("demo"), HttpSettings(), on_bytes=lambda _: None)
    done = invoke("models", "--json")
    rows = {row["id"]: row for row in json.loads(done.stdout)}
    assert list(rows) == list(MODELS)
    assert rows["demo"]["installed"]
    assert rows["demo"]["directory"] == str(weights.directory(state.home(), model("demo")))
    assert not rows["svd"]["installed"]
    assert rows["svd"]["gated"] is None
    assert rows["svd"]["licence"] == "stable-video-diffusion-community"
    assert (rows["svd-xt"]["to_learn"], rows["svd-xt"]["unknown"]) == (1, 0)
    assert rows["i2vgen-xl"]["unknown"] == 4
    assert not rows["i2vgen-xl"]["exact"]
    assert len(rows["animatediff"]["repositories"]) == 2


def test_the_table_says_what_is_not_known(invoke: Invoke) -> None:
    table = invoke("models").stdout
    for words in ("~5.0 GB", "not known", "11 to be learnt", "all known, 11 to be confirmed", "34.2 GB"):
        assert words in table
