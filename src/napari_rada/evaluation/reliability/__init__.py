"""Is the engine to be trusted? Commands that break it on purpose and count what survives.

``python -m napari_rada.evaluation.reliability kills | endurance | rounds | fuzz | scale | distributed``; each prints
its figures, as JSON with ``--json``, and ends with status 1 if something did not survive.
"""
