"""The process of one sample.

Each has one of its own, forked from a process that has imported everything and done nothing: no contender inherits
what another did, and none pays for imports.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import multiprocessing
import os
import signal
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

from pydantic import TypeAdapter

from .clock import LoopClock
from .job import Job
from .lab import Lab
from .record import Sample
from .refusal import Refusal
from .sample import refused, sample_of
from .scenarios import scenario

_ROOT = Path(__file__).parent.parent
#: What setting up may take on top of the measured time, in seconds; a million entries are filled in by then.
_PATIENCE = 240.0


def measure(job: Job) -> Sample:
    """In a process of its own, which is ended if it takes far too long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.preload"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(json.dumps(asdict(job)), theirs))
    process.start()
    theirs.close()
    assert process.pid is not None
    try:
        patience = job.seconds * 3 + _PATIENCE
        if not ours.poll(patience):
            return refused(job, f"not done after {patience:.0f} s")
        return TypeAdapter(Sample).validate_json(ours.recv_bytes())
    except EOFError:
        process.join()
        return refused(job, f"its process ended with code {process.exitcode}")
    finally:
        ours.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with whatever it started, a stopped proxy included
        process.kill()
        process.join()
        process.close()


def _main(job: str, answer: Connection) -> None:
    os.setpgid(0, 0)
    os.chdir(_ROOT)
    # Libraries print and log as they like. A peer that logs each of its failures is not charged for the writing.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    logging.disable(logging.CRITICAL)
    gc.freeze()  # what was imported is nobody's garbage
    sample = run(TypeAdapter(Job).validate_json(job))
    answer.send_bytes(json.dumps(asdict(sample)).encode())


def run(job: Job) -> Sample:
    """Whatever goes wrong is told by the sample: a contender that fails is shown failing, and ends no run."""
    clock = LoopClock()
    try:
        return asyncio.run(_measure(job, clock))
    except Refusal as error:
        return refused(job, str(error))
    except ImportError as error:
        return refused(job, f"not installed: {error.name or error} (pip install -e '.[bench]')")
    except Exception as error:  # noqa: BLE001  (whatever a contender raises while it is set up)
        text = " ".join(str(error).split())[:300]
        return refused(job, f"{type(error).__name__} while it was set up: {text}")
    finally:
        clock.close()


async def _measure(job: Job, clock: LoopClock) -> Sample:
    measured = await scenario(job.scenario).run(Lab(job, clock))
    return sample_of(job, measured)
