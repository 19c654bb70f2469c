"""Faults of real servers under load: a table of them, one suite body, and what callers saw.

table.py            each fault: its name, how it begins, how it ends
place.py            the servers it happens to, and the caches on them
load.py             callers through both adapters and on the engine, and what is a wrong answer
run.py              one fault from before its beginning past its end, in figures
test_matrix.py      every fault once, short
python -m tests.faults [--fault NAME] [--seconds 10]     longer, and as a table
python -m tests.soak --minutes 3                         they come and go at random
"""
