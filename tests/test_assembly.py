"""From working grids to a mask: networks and propagation together."""

import numpy as np
import pytest
from tests.engine import ball_case, tiny_config

from napari_rada import assembly, pipeline
from napari_rada.inference.blending import blended


@pytest.mark.parametrize(("own", "corrections"), [(None, True), (6000, True), (6000, False)])
def test_networks_and_propagation_come_together_on_the_scans_own_voxels(tmp_path, monkeypatch, own, corrections):
    """Also where the propagation has grids of its own, in another box."""
    case = ball_case()
    config = tiny_config(
        propagation__method="combined",
        data__propagation_voxels=own,
        data__max_voxels=4096,
        training__iterations=1,
        inference__edge_aware=False,
        inference__corrections=corrections,
    )
    pipeline.train([case], tmp_path / "run", config)
    seen = []
    monkeypatch.setattr(
        assembly, "blended", lambda first, *rest: seen.append((first.copy(), *rest)) or blended(first, *rest)
    )
    found = pipeline.predict(tmp_path / "run", case, device="cpu").probability
    ((networks, propagation, settings, begun),) = seen
    assert networks.shape == propagation.shape == found.shape
    unknown = ~case.known
    np.testing.assert_allclose(propagation.sum(axis=0), 1, atol=1e-5)
    assert not np.allclose(networks[:, unknown], propagation[:, unknown], atol=0.01)
    np.testing.assert_array_equal(found[:, unknown], blended(networks, propagation, settings, begun)[:, unknown])
    assert (begun is not None) == corrections
    if corrections:
        assert begun.shape == propagation.shape
        np.testing.assert_allclose(begun.sum(axis=0), 1, atol=1e-4)
    alone = pipeline.propagate(case, config).probability
    np.testing.assert_allclose(propagation[:, unknown], alone[:, unknown], atol=1e-5)
