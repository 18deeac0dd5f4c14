"""The dock widgets. The only place that imports Qt, superqt, magicgui and the plot library."""
