"""A run that tests of the use cases share."""

import pytest
from tests.engine import ball_case, tiny_config

from napari_rada import pipeline
from napari_rada.events import FinishReason


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    result = pipeline.train([ball_case()], path, tiny_config())
    assert result.reason is FinishReason.COMPLETED
    return path
