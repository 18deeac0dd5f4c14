"""``python -m napari_rada`` is ``napari-rada``."""

import sys

from napari_rada.cli import main

sys.exit(main())
