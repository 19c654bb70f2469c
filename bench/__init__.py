"""The benchmark harness: `python -m bench` measures this cache beside its peers, on the tiers you choose.

A run goes from top to bottom:

    cli, screen     what was asked for, and what is seen of it
    tiers, plan     on which servers; which samples, in which order
    runner, worker  each sample in a process of its own
    scenarios/      what is done to a contender: one module each
    contenders/     to whom it is done: this cache, its peers, and the limits
    lab, loops      the open and the closed loop; clock, heartbeat and lag watch over the generator itself
    sample, record  what is kept; figures, table, report and compare are made of it
    tune            the same machinery, in search of settings: workload, advice
"""
