"""The stream on tape: a pax archive, written in parts, read as it streams by, restored safely.

An image is a run of 512-byte blocks::

    global header | directories nobody owns | part of owner 1 | part of owner 2 ... | trailer | end-of-archive
    frame.py        writer.py                 writer.py                               frame.py  frame.py

The members of a part are followed by their index (index.py), which has a checksum of each; verify.py and
recheck.py compare.

Each member is an `x` header (named after the job and its offset), GNU `L` and `K` headers for long names
that are not UTF-8, a ustar header, and data.  GNU tar and bsdtar extract it by themselves.

What the others cannot do, although all of it is in the image: GNU tar warns of times before 1970 (and
restores them), and stops at PATH_MAX; bsdtar misreads negative fractions of a second, does not find `=` in
the names of extended attributes, leaves the time of "." alone, and refuses more than 1 MiB of attributes.

Read `part.py` (what a writer is asked for and tells) and `writer.py`; `reader.py` and `member.py`; then
`extract.py` and `targets.py`.  No sockets and no NDMP in here.
"""
