"""`LBFGS`: torch's optimizer of that name, with the direction computed by matrix products."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.linalg.lapack import dtrtrs
from torch import Tensor
from torch.optim.lbfgs import _strong_wolfe
from typing_extensions import override

Array = np.ndarray[Any, np.dtype[Any]]

_CURVATURE = 1e-10
"""A pair of differences with a smaller scalar product is discarded, as in torch."""


class LBFGS(torch.optim.LBFGS):
    """`torch.optim.LBFGS` with the strong Wolfe line search, but faster.

    torch finds a direction with four small operations for each pair in its history. This class
    keeps the history as two matrices S and Y of shape (pairs, parameters) and their scalar
    products, and finds the same direction from four products of a matrix and a vector (Byrd,
    Nocedal and Schnabel 1994, Theorem 2.2). In exact arithmetic every iteration is the same; only
    rounding differs. For small models, where the history takes most of the time, a step takes less
    than half as long; for large models it is not slower.

    Args:
        params: The parameters, all in one group.
        lr: The step length that the line search tries first.
        max_iter: The largest number of iterations in a step.
        max_eval: The largest number of evaluations of the loss in a step; None means 1.25·max_iter.
        tolerance_grad: A step ends when no entry of the gradient is larger than this.
        tolerance_change: A step ends when an iteration changes the loss, or every parameter, by
            less than this. Lower it for losses below 1e-6, whose steps would otherwise end early.
        history_size: The number of pairs that are kept.

    Raises:
        ValueError: The parameters are in several groups, or one is complex.

    Example:
        >>> import functools, torch, qkan
        >>> model = qkan.QKAN([2, 5, 1])
        >>> x = torch.rand(64, 2)
        >>> exact = functools.partial(qkan.LBFGS, tolerance_grad=0, tolerance_change=0)
        >>> history = qkan.fit(model, (x, x.prod(1, keepdim=True)), optimizer=exact, steps=2)
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
    ) -> None:
        super().__init__(
            params, lr, max_iter, max_eval, tolerance_grad, tolerance_change, history_size,
            line_search_fn="strong_wolfe",
        )  # fmt: skip
        if any(p.is_complex() for p in self._params):
            raise ValueError("LBFGS takes real parameters; torch.optim.LBFGS takes complex ones.")

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take one step of up to `max_iter` iterations.

        Args:
            closure: A function that clears the gradients, computes the loss and its gradients, and
                returns the loss.

        Returns:
            The loss before the step.
        """
        group = self.param_groups[0]
        evaluate = torch.enable_grad()(closure)
        first = evaluate()
        loss, gradient, left = float(first), self._gradient(), group["max_eval"] - 1
        if not _exceeds(gradient, group["tolerance_grad"]):
            return first
        point = torch.cat([p.reshape(-1) for p in self._params])
        history = _History(self.state[self._params[0]], point, group["history_size"])
        for _ in range(group["max_iter"]):
            direction, length = history.direction(gradient), float(group["lr"])
            if history.is_new:
                length *= min(1.0, 1.0 / float(gradient.abs().sum()))
            slope = gradient.dot(direction)
            if slope > -group["tolerance_change"]:
                break
            before = loss
            loss, gradient, length, count = _strong_wolfe(
                functools.partial(self._at, evaluate),
                point, length, direction, loss, gradient, slope, max_ls=left,
            )  # fmt: skip
            left -= count
            change = direction * length
            point = point + change
            history.moved(change)
            if (
                left <= 0
                or not _exceeds(gradient, group["tolerance_grad"])
                or not _exceeds(change, group["tolerance_change"])
                or abs(loss - before) < group["tolerance_change"]
            ):
                break
        self._set(point)
        return first

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume exactly from a state of this class.

        Raises:
            ValueError: The state is one of `torch.optim.LBFGS`, whose history has another form.
        """
        for state in state_dict["state"].values():
            if "old_dirs" in state:
                raise ValueError(
                    "This is a state of torch.optim.LBFGS, from which qkan.LBFGS cannot resume. "
                    "Resume with the optimizer that wrote it, for instance "
                    "torch.optim.LBFGS(parameters, line_search_fn='strong_wolfe')."
                )
        super().load_state_dict(state_dict)
        # torch casts to the dtype of the parameters
        for key, state in state_dict["state"].items():
            if "products" in state:
                self.state[self._params[key]]["products"] = state["products"].clone()

    def _at(
        self, evaluate: Callable[[], Tensor], point: Tensor, length: float, direction: Tensor
    ) -> tuple[float, Tensor]:
        """The loss and its gradient at point + length·direction."""
        self._set(point + direction * length)
        return float(evaluate()), self._gradient()

    def _gradient(self) -> Tensor:
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._params]
        return torch.cat([(g.to_dense() if g.is_sparse else g).reshape(-1) for g in gradients])

    def _set(self, point: Tensor) -> None:
        parts = point.split([p.numel() for p in self._params])
        shaped = [part.view_as(p) for part, p in zip(parts, self._params, strict=True)]
        torch._foreach_copy_(self._params, shaped)


class _History:
    """Pairs of changes of the point, s, and of its gradient, y, and the direction they give.

    Row r of `rows`, of shape (size, 2, parameters), holds s and y of pair number r modulo the size.
    `products` holds the scalar products sᵢ·yⱼ of pairs in which y is not the older one, and all
    yᵢ·yⱼ, in float64 on the CPU: those of the kept pairs in their order, in a window that moves
    along the diagonal by one with each pair, and ends at `end`.

    Args:
        state: The state of the optimizer, which keeps all this from step to step.
        like: A vector of the parameters' size, dtype and device.
        size: The number of pairs that are kept.
    """

    def __init__(self, state: dict[str, Any], like: Tensor, size: int) -> None:
        if "pairs" not in state:
            products = torch.zeros(2, 2 * size, 2 * size, dtype=torch.float64)
            rows = like.new_empty(size, 2, len(like))
            state.update(rows=rows, products=products, pairs=0, end=0, diagonal=1.0)
        self.state = state
        self.size = size
        self.products = state["products"].numpy()

    @property
    def is_new(self) -> bool:
        """Whether there has been no iteration yet."""
        return "moved" not in self.state

    def direction(self, gradient: Tensor) -> Tensor:
        """Return −H·gradient, where H is the inverse Hessian that the pairs imply."""
        state = self.state
        if not self.is_new:
            self._keep(state["moved"], gradient - state["gradient"])
        state["gradient"] = gradient
        if not state["pairs"]:
            return gradient.neg()
        rows, order = self._rows()
        along = _numbers(rows @ gradient).reshape(-1, 2)[order]
        sy, yy = self._window()
        scale = state["diagonal"]
        # these two triangular systems are the two loops of the textbook
        alpha = _solve(sy, along[:, 0])
        rest = sy.diagonal() * alpha - scale * (along[:, 1] - yy @ alpha)
        weights = np.empty(along.shape)
        weights[order, 0] = -_solve(sy, rest, transposed=True)
        weights[order, 1] = scale * alpha
        combined = torch.from_numpy(weights.ravel()).to(rows)
        return torch.addmv(gradient, rows.T, combined, beta=-scale)

    def moved(self, change: Tensor) -> None:
        """Record that the point moved by `change`."""
        self.state["moved"] = change

    def _keep(self, step: Tensor, change: Tensor) -> None:
        """Add a pair, unless the curvature along it is not clearly positive."""
        state = self.state
        if float(change.dot(step)) <= _CURVATURE:
            return
        torch.stack((step, change), out=state["rows"][state["pairs"] % self.size])
        state["pairs"] += 1
        if state["end"] == self.products.shape[1]:
            # the window is at the end of the diagonal and returns to its beginning
            kept = self.size - 1
            self.products[:, :kept, :kept] = self.products[:, -kept:, -kept:].copy()
            state["end"] = kept
        state["end"] += 1
        rows, order = self._rows()
        with_change = _numbers(rows @ change).reshape(-1, 2)[order]
        sy, yy = self._window()
        sy[:, -1] = with_change[:, 0]
        yy[-1] = yy[:, -1] = with_change[:, 1]
        state["diagonal"] = float(sy[-1, -1] / yy[-1, -1])

    def _rows(self) -> tuple[Tensor, slice | Array]:
        """Return all s and y, of shape (2·pairs, parameters), and the order in which they came."""
        pairs = self.state["pairs"]
        kept = min(pairs, self.size)
        order = slice(None) if kept == pairs else np.arange(pairs, pairs + kept) % kept
        return self.state["rows"][:kept].flatten(0, 1), order

    def _window(self) -> Array:
        """Return both matrices of scalar products, of shape (2, pairs, pairs)."""
        end = self.state["end"]
        begin = end - min(self.state["pairs"], self.size)
        window: Array = self.products[:, begin:end, begin:end]
        return window


def _solve(upper: Array, right: Array, transposed: bool = False) -> Array:
    """Solve a triangular system whose matrix has arbitrary numbers below the diagonal."""
    # the transpose of a C-ordered matrix is in LAPACK's order, and lower
    found, singular = dtrtrs(upper.T, right, lower=1, trans=0 if transposed else 1)
    assert not singular  # every kept pair has a positive entry on the diagonal
    result: Array = found
    return result


def _exceeds(vector: Tensor, tolerance: float) -> bool:
    return bool(vector.abs().max() > tolerance)


def _numbers(vector: Tensor) -> Array:
    found: Array = vector.double().cpu().numpy()
    return found
