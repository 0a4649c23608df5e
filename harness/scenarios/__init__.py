"""What may happen to a site, one scenario each: what is done, and what must hold afterwards.

`table` names them all; `stage` is what they work with; `runner` runs some, one after the other, on one
lab.  Everything that is left to chance comes from one seed number.
"""
