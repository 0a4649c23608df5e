"""The stream on tape: a pax archive, written in parts, read as it streams by, restored safely.

An image is a run of 512-byte blocks::

    global header | directories nobody owns | part of owner 1 | part of owner 2 ... | trailer | end-of-archive
    frame.py        writer.py                 writer.py                               frame.py  frame.py

Each member is an `x` header (named after the job and its offset), GNU `L` and `K` headers for long names
that are not UTF-8, a ustar header, and data.  GNU tar and bsdtar extract it by themselves.

Read `part.py` (what a writer is asked for and tells) and `writer.py`; `reader.py` and `member.py`; then
`extract.py` and `targets.py`.  No sockets and no NDMP in here.
"""
