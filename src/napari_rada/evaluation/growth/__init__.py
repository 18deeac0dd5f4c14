"""How time and memory grow with the voxels, the classes and the scans."""
