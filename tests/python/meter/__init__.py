"""The lost-write meter: does parking ever lose what a thread writes in the meantime?

A lost write is one that lands in the old pages between the moment when parking finds memory and file equal
and the moment when the file's pages take their place. It must be prevented by leaving memory in use where it
is; a kind of holder is a way of being in use, by which a writing thread keeps its memory alive during a call
of C code that does not hold the interpreter lock.

`meter.c` is loaded ahead of the C library and sees the comparison, so that a park counts only when other
memory moved while the writer was inside its call, and so that the dangerous moment is stretched until a write
lands in it, if parking ever lets one.

`python -m meter --parks 200` prints one JSON object per kind.
"""
