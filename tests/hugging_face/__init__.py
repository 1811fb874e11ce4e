"""`make test-hf`: the common tests that transformers holds its own models to, on ours; ALBERT is the control.

They are in transformers' source distribution, not in what pip installs: `source.py` fetches that of the installed
version. `common.py` says what is tested, and what is by design not so.
"""
