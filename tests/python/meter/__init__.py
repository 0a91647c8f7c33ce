"""The lost-write meter: does parking ever lose what a thread writes meanwhile?

A lost write is one that lands in the old pages between the moment in which parking found memory and
file equal and the moment in which the file's pages take their place. What must prevent it is that
memory in use stays; a kind of holder is a way to be in use, by which a writing thread keeps its
memory alive during a call of C code that does not hold the interpreter lock.

`meter.c` is loaded ahead of the C library and sees the comparing, so that a park counts only when
other memory moved while the writer was inside its call, and so that the dangerous moment is
stretched until a write lands in it, if parking ever lets one.

`python -m meter --parks 200` prints one JSON object per kind.
"""
