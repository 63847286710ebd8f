"""File formats, for plugins: each reader names the file and says what to do when it cannot be read. The engine itself reads none.

Import the module that you need; `nifti` and `arrays` want nibabel and h5py, which a plugin that uses them declares.
"""
