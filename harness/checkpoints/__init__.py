"""States of a lab that are kept, and put back in seconds.

`record` is what a checkpoint says of itself, and whether it fits the lab as it would be made now; `store` the
folder they lie in; `keeper` saves and reverts with a provider.  docs/lab.md says what people see.
"""
