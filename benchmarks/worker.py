"""One candidate in a process of its own: it builds a case's layer and then does as it is told.

Started by `session.py` with the interpreter of the candidate's environment. It reads one JSON
command a line from stdin and answers with one JSON line; between commands it blocks on stdin.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory import train_step_memory
from torch import Tensor
from workers.subject import Subject, Unavailable


class Worker:
    """A subject with its input, and the commands on it."""

    def __init__(self, order: dict[str, Any]) -> None:
        torch.set_num_threads(order["threads"])
        self.case: dict[str, Any] = order["case"]
        self.options: dict[str, Any] = order["options"]
        with np.load(order["arrays"]) as file:
            arrays = {name: file[name] for name in file.files}
        arrays["x"] = arrays["x"][: self.case["batch"]]
        module = importlib.import_module(f"workers.{order['worker']}")
        self.subject: Subject = module.build(self.case, arrays, self.options)
        dtype = getattr(torch, self.options.get("dtype", self.case["dtype"]))
        self.x = torch.from_numpy(arrays["x"]).to(dtype)

    def hello(self) -> dict[str, Any]:
        """What the JSON tells about this process."""
        names = (d.metadata["Name"] for d in importlib.metadata.distributions())
        packages = {name: importlib.metadata.version(name) for name in names if name}
        return {
            "python": sys.version.split()[0],
            "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
            "torch_threads": torch.get_num_threads(),
            "about": self.subject.about,
        }

    def time(self, measure: str, calls: int, warm: int, most: float = 1e9) -> dict[str, Any]:
        """Seconds of each of `calls` calls, fewer once `most` are over, after `warm` uncounted."""
        run = {"forward": self.forward, "still": self.forward, "step": self.step}[measure]
        x = self.ready(measure)
        samples: list[float] = []
        end = time.perf_counter() + most
        for count in range(warm + calls):
            self.between(touch=measure != "still")
            x.grad = None
            start = time.perf_counter()
            result = run(x)
            stop = time.perf_counter()
            del result
            if count >= warm:
                samples.append(stop - start)
                if stop > end:
                    break
        self.between(touch=False)
        return {"samples": samples}

    def ready(self, measure: str) -> Tensor:
        """Switch modes and return the input of a measure."""
        self.subject.train(measure == "step")
        return self.x.detach().requires_grad_(measure == "step")

    def between(self, touch: bool) -> None:
        """What comes between two calls, untimed: no gradients, and theta may have changed."""
        for parameter in self.subject.parameters:
            parameter.grad = None
        if touch:
            with torch.no_grad():
                self.subject.theta.add_(0.0)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.subject.call(x)

    def step(self, x: Tensor) -> Tensor:
        loss = self.subject.call(x).square().mean()
        loss.backward()
        return loss

    def check(self, rows: list[int], path: str, batch: int | None = None) -> dict[str, Any]:
        """Outputs and gradients of the mean square over `rows`, written for the gate."""
        chosen = torch.tensor(rows)
        found = {"forward": self.outputs(chosen, batch)}
        x = self.ready("step")
        self.between(touch=False)
        y = []
        for inputs, picked in self.parts(x, chosen, batch):
            values = self.subject.call(inputs)[picked]
            (values.square().sum() / (len(rows) * values.shape[1])).backward()
            y.append(values.detach())
        found["y"] = torch.cat(y)
        if self.subject.gradients is not None:
            assert x.grad is not None
            gradients = {"x": x.grad[chosen], **self.subject.gradients()}
            found |= {f"grad {name}": value for name, value in gradients.items()}
        np.savez(path, **{name: value.detach().cpu().numpy() for name, value in found.items()})
        self.between(touch=False)
        return {"arrays": list(found)}

    def outputs(self, chosen: Tensor, batch: int | None) -> Tensor:
        """The outputs of `chosen` rows as a forward without gradients gives them."""
        x = self.ready("forward")
        return torch.cat([self.forward(a)[picked] for a, picked in self.parts(x, chosen, batch)])

    def parts(self, x: Tensor, chosen: Tensor, batch: int | None) -> list[tuple[Tensor, Any]]:
        """Inputs to call with, and which of their rows count: the whole batch, or chunks."""
        chunk = self.options.get("chunk")
        if chunk is None:
            return [(x[:batch], chosen)]
        return [(x[rows], slice(None)) for rows in chosen.split(chunk)]

    def memory(self, batches: list[int], limit: float) -> dict[str, Any]:
        """Peak resident memory of train steps; see `memory.train_step_memory`."""
        return train_step_memory(self.step, self.subject, self.x, batches, limit)

    def usage(self) -> dict[str, Any]:
        """CPU seconds of this process so far, all threads."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {"cpu": used.ru_utime + used.ru_stime}


def main(make: type[Worker] = Worker) -> None:
    # what packages print must not end up among the answers
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = None
    for line in sys.stdin:
        command = json.loads(line)
        name = command.pop("do")
        try:
            if name == "build":
                worker = make(command)
                answer = worker.hello()
            else:
                answer = getattr(worker, name)(**command)
        except Unavailable as reason:
            answer = {"unavailable": str(reason)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
            Path(os.environ["BENCHMARK_LOG"]).write_text(traceback.format_exc())
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
