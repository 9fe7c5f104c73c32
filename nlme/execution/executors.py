"""Parts of a work by an executor: a ``concurrent.futures`` executor or the client of a Dask cluster.

A work is a picklable object, called with one task at a time; a task is picklable, too.  What a work makes of a task depends on nothing
else, so that it does not matter who does it, in what order, and how often: a task whose worker died is done again.  How a work is divided into
tasks must therefore not depend on the executor.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from typing import Any

from nlme.errors import FitError
from nlme.execution.parcels import Named, kept, packed, packed_with_names, unpacked
from nlme.versions import versions

_DEATHS = 3  # pools that may break during one work
_SAME = ("nlme", "jax", "jaxlib", "numpy")  # versions on which results depend to the last bit
_GUARD = "A script that starts processes needs `if __name__ == '__main__':` before what it does, for they read it again."


def require_executor(executor: Any) -> None:
    """Refuse what cannot do tasks.

    Raises
    ------
    FitError
        Neither an executor nor a Dask client, or processes that are forked, in which JAX's threads hang.
    """
    if executor is None:
        return
    if _is_dask(executor):
        if executor.asynchronous:
            raise FitError("executor=: this Dask client is asynchronous; make one with Client(..., asynchronous=False).")
        return
    if not isinstance(executor, Executor):
        raise FitError(
            "executor= is a concurrent.futures executor (ThreadPoolExecutor, ProcessPoolExecutor) or a dask.distributed.Client; got "
            f"{type(executor).__name__}."
        )
    if isinstance(executor, ProcessPoolExecutor) and executor._mp_context.get_start_method() == "fork":
        raise FitError(
            "executor=: this ProcessPoolExecutor forks its processes, in which JAX's threads hang. Make it with "
            "ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('spawn'))."
        )


def carried_out(work: Callable[[Any], Any], tasks: Mapping[int, Any], executor: Any) -> Iterator[tuple[int, Any]]:
    """(k, work(tasks[k])) in the order in which they end; without an executor one after another here.

    Closing the iterator takes back the tasks that have not begun.

    Raises
    ------
    FitError
        No worker can do them: processes die again and again, a cluster is closed, other versions are installed there, or it has
        another text of the user's files.  Whatever a task itself raises.
    """
    require_executor(executor)
    if executor is None:
        for k, task in tasks.items():
            yield k, work(task)
        return
    waiting, deaths, crew = dict(tasks), 0, _crew(executor)
    sent = (work,) if isinstance(executor, ThreadPoolExecutor) else (*packed_with_names(work), _versions())
    try:
        while waiting:
            broken, futures = False, {}
            try:
                for k, task in waiting.items():
                    futures[_submitted(crew, sent, task)] = k
            except BrokenExecutor:
                broken = True
            try:
                for future in as_completed(futures):
                    try:
                        found = future.result()
                    except BrokenExecutor:
                        broken = True
                        continue
                    except CancelledError:
                        raise FitError("executor=: its tasks were cancelled, or its cluster was closed.") from None
                    k = futures[future]
                    del waiting[k]
                    yield k, unpacked(found) if isinstance(found, bytes) else found
            finally:
                for future in futures:
                    future.cancel()
            if broken:
                deaths += 1
                crew = _renewed(crew, executor, deaths, len(waiting), len(tasks))
    except Exception as error:
        if type(error).__name__ != "KilledWorker":  # Dask's, after it has tried several workers
            raise
        raise FitError(f"executor=: the workers of the cluster died of a task again and again ({error}).") from None
    finally:
        if crew is not executor and isinstance(crew, ProcessPoolExecutor):
            crew.shutdown(wait=False, cancel_futures=True)


def in_order(found: Iterator[tuple[int, Any]]) -> Iterator[Any]:
    """The results of ``carried_out`` in the order of the tasks, which are counted from 0."""
    early, upcoming = {}, 0
    for k, result in found:
        early[k] = result
        while upcoming in early:
            yield early.pop(upcoming)
            upcoming += 1


def _is_dask(executor: Any) -> bool:
    """Whether this is the client of a Dask cluster, found without importing Dask for those who have none."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(executor, distributed.Client)


class _Cluster(Executor):
    """The workers of a Dask client.  (Its own ``get_executor`` takes a result for an error when the worker that made it has died since.)"""

    def __init__(self, client: Any):
        self._client = client

    def submit(self, function, *arguments):
        here: Future = Future()
        there = self._client.submit(function, *arguments, pure=False)

        def ended(there):
            if not here.set_running_or_notify_cancel():
                return
            try:
                here.set_result(there.result())  # waits on where the result was lost with its worker
            except BaseException as error:
                here.set_exception(CancelledError() if there.status == "cancelled" else error)

        there.add_done_callback(ended)
        here.add_done_callback(lambda here: there.cancel() if here.cancelled() else None)
        return here


def _crew(executor: Any) -> Executor:
    return _Cluster(executor) if _is_dask(executor) else executor


def _versions() -> dict[str, str]:
    return {name: value for name, value in versions().items() if name in _SAME}


def _submitted(crew: Executor, sent: tuple, task: Any):
    try:
        return crew.submit(_done_here, *sent, task) if len(sent) == 1 else crew.submit(_done_there, *sent, packed(task))
    except BrokenExecutor:
        raise
    except RuntimeError as error:  # "cannot schedule new futures after shutdown"
        raise FitError(f"executor=: it takes no tasks ({error}). Use it before its `with` block ends.") from None


def _done_here(work, task):
    return work(task)


def _done_there(parcel: bytes, named: Named, expected: dict[str, str], task: bytes) -> bytes:
    """What a worker process does."""
    if (here := _versions()) != expected:
        listed = ", ".join(f"{name} {here[name]} instead of {value}" for name, value in expected.items() if here[name] != value)
        raise FitError(f"A worker has {listed}: its results would not be those of one machine. Install the same versions there.")
    return packed(kept(parcel, named)(unpacked(task)))


def _renewed(crew: Executor, given: Executor, deaths: int, left: int, count: int) -> Executor:
    """A pool in place of one of which a process was killed; the user's own is left as it is.

    Raises
    ------
    FitError
        It is not known how to make another, or it has happened too often.
    """
    said = f"executor=: a worker process died; {left} of {count} tasks are not done"
    if type(given) is not ProcessPoolExecutor:
        raise FitError(f"{said}, and a {type(given).__name__} cannot be made anew here. With checkpoint= what is done is kept.")
    if deaths > _DEATHS:
        raise FitError(f"{said} after {deaths} times. {_GUARD if left == count else 'Is there memory enough for them?'}")
    warnings.warn(f"{said}, and are done again by new processes.", RuntimeWarning, stacklevel=4)
    if crew is not given:
        crew.shutdown(wait=False)
    return ProcessPoolExecutor(
        given._max_workers, mp_context=given._mp_context, initializer=given._initializer, initargs=given._initargs
    )
