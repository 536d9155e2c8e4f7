"""The commands. `NAME.py` is one's entry, `NAME_options.py` what it can be asked for, `NAME_work.py` does it.

Entries and options are free of JAX; the work is imported once the words are read. What training can be asked for is
`equisct.settings`, and its work `equisct.runs`.
"""
