"""Bundles: what an installation needs, in one directory that is carried to a machine without a network.

DIR/manifest.json       what is in it, with sizes and sha256; written last, so that a bundle without it is not whole
DIR/wheels/*.whl        the packages
DIR/models/ID/…         the model's files, under their own names
DIR/locks/NAME          the lock that the packages were chosen by
DIR/weights-lock.json   what was learnt of the model's files
DIR/tool/*.whl          this tool and what it needs: pip install --no-index --find-links DIR/tool i2v-setup
"""
