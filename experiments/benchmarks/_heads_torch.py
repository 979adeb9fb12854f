"""Heads of many users in PyTorch, as others write them: what the benchmark `heads` is compared with.

`Dense` is the one-hot form of HYDRA's public code, written anew from its description: the heads are stacked, an
example's head is a one-hot mask times the stack, and one dense AdamW updates every head. `Sparse` and `Functional` are
what a competent user writes: rows of an `nn.Embedding(sparse=True)` reshaped into heads, batched products and
SparseAdam; and a plain gather with AdamW written out on the gathered rows. `InPlace` is what a processor likes best:
one user after another, on views of the user's rows, with PyTorch's fused AdamW and the gradient written out.
None clips the gradient of a user, and SparseAdam has no weight decay: all do less than the step they compare with.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

RATE, DECAY, BETAS, EPS = 1e-3, 1e-2, (0.9, 0.999), 1e-8
Shared = dict[str, Any]


def with_threads(count: int, step: Callable[..., None]) -> Callable[..., None]:
    """The step with so many threads of PyTorch."""

    def run(*batch: Any) -> None:
        torch.set_num_threads(count)
        step(*batch)

    return run


def tensors(rows: Any, x: Any, label: Any) -> tuple[Any, Any, Any]:
    """A batch on PyTorch's side."""
    return torch.tensor(np.array(rows, np.int64)), torch.tensor(np.array(x)), torch.tensor(np.array(label))


def score(family: str, rows: Any, shared: Shared, x: Any) -> Any:
    """Scores [U, E] of heads kept as flat rows [U, P], in the order of their names; x is [U, E, D]."""
    users, _, d = x.shape
    if family == "linear":
        b, w = rows.split([1, d], dim=1)
        return torch.bmm(x, w[..., None])[..., 0] + b
    if family == "low_rank_mlp":
        rank = (rows.shape[1] - d) // (2 * d)
        a, b, o = (part.view(users, *shape) for part, shape in _parts(rows, (d, rank), (rank, d), (d, 1)))
        low = torch.bmm(torch.bmm(x, b.transpose(1, 2)), a.transpose(1, 2))
        return torch.bmm(torch.tanh(x @ shared["w0"] + low + shared["b0"]), o)[..., 0]
    b1, b2, w1, w2 = (part.view(users, *shape) for part, shape in _parts(rows, (1, d), (1, 2), (d, d), (d, 2)))
    out = torch.baddbmm(b2, torch.tanh(torch.baddbmm(b1, x, w1)), w2)
    return out[..., 1] - out[..., 0]


class Sparse:
    """Embedding, batched products, SparseAdam."""

    def __init__(self, family: str, bank: np.ndarray, shared: Shared):
        self.family, self.shared = family, _tensors(shared)
        self.bank = torch.nn.Embedding.from_pretrained(torch.tensor(bank), freeze=False, sparse=True)
        self.optimizer = torch.optim.SparseAdam(self.bank.parameters(), lr=RATE, betas=BETAS, eps=EPS)

    def step(self, rows: Any, x: Any, label: Any) -> None:
        self.optimizer.zero_grad()
        _loss(score(self.family, self.bank(rows), self.shared, x), label).backward()
        self.optimizer.step()


class Functional:
    """A plain gather, AdamW on the gathered rows, and the rows written back."""

    def __init__(self, family: str, bank: np.ndarray, shared: Shared):
        self.family, self.shared = family, _tensors(shared)
        self.bank = torch.tensor(bank)
        self.mu, self.nu = torch.zeros_like(self.bank), torch.zeros_like(self.bank)
        self.count = torch.zeros(len(bank))

    def step(self, rows: Any, x: Any, label: Any) -> None:
        users = self.bank[rows].requires_grad_()
        (grad,) = torch.autograd.grad(_loss(score(self.family, users, self.shared, x), label), users)
        with torch.no_grad():
            count = self.count[rows] + 1
            mu = self.mu[rows].mul_(BETAS[0]).add_(grad, alpha=1 - BETAS[0])
            nu = self.nu[rows].mul_(BETAS[1]).addcmul_(grad, grad, value=1 - BETAS[1])
            first, second = (1 / (1 - b**count)[:, None] for b in BETAS)
            users = users.detach()
            users.sub_((mu * first).div_((nu * second).sqrt_().add_(EPS)).add_(users, alpha=DECAY), alpha=RATE)
            self.bank[rows], self.mu[rows], self.nu[rows], self.count[rows] = users, mu, nu, count


class InPlace:
    """One `mlp` head after another where it lies: nothing is gathered, scattered or differentiated."""

    def __init__(self, bank: np.ndarray, d: int):
        self.bank, self.d = torch.tensor(bank), d
        self.mu, self.nu = torch.zeros_like(self.bank), torch.zeros_like(self.bank)
        self.count = torch.zeros(len(bank))
        self.grad = torch.empty(bank.shape[1])
        self.into = self._leaves(self.grad)

    def step(self, rows: Any, x: Any, label: Any) -> None:
        with torch.no_grad():
            self.count[rows] += 1
            for row, own, y in zip(rows.tolist(), x, label, strict=True):
                self._update(row, own, y)

    def _update(self, row: int, x: Any, y: Any) -> None:
        """One user's step, x [E, D] and y [E]; the row, its moments and its gradient stay in the cache meanwhile."""
        b1, b2, w1, w2 = self._leaves(self.bank[row])
        h = torch.addmm(b1, x, w1).tanh_()
        out = torch.addmm(b2, h, w2)
        g = (torch.sigmoid(out[:, 1] - out[:, 0]) - y) / len(y)
        of_out = torch.stack((-g, g), dim=1)
        of_hidden = of_out @ w2.T
        of_hidden.addcmul_(of_hidden * h, h, value=-1)
        for (bias, weight), inputs, of in ((self.into[::2], x, of_hidden), (self.into[1::2], h, of_out)):
            torch.sum(of, dim=0, out=bias)
            torch.mm(inputs.T, of, out=weight)
        state = [[part[row]] for part in (self.bank, self.mu, self.nu, self.count)]
        torch._fused_adamw_(
            state[0], [self.grad], state[1], state[2], [], state[3], lr=RATE, beta1=BETAS[0], beta2=BETAS[1],
            weight_decay=DECAY, eps=EPS, amsgrad=False, maximize=False,
        )  # fmt: skip

    def _leaves(self, row: Any) -> tuple[Any, ...]:
        """Views of b1, b2, w1 and w2 in a flat row."""
        b1, b2, w1, w2 = row.split([self.d, 2, self.d**2, 2 * self.d])
        return b1, b2, w1.view(self.d, self.d), w2.view(self.d, 2)


class Dense:
    """One-hot masks times stacked `mlp` heads; every head is in every gradient and in every update."""

    def __init__(self, users: int, d: int):
        shapes = {"w1": (d, d), "b1": (d,), "w2": (d, 2), "b2": (2,)}
        start = {name: torch.empty(users, *shape).uniform_(-1, 1) * d**-0.5 for name, shape in shapes.items()}
        self.heads = {name: torch.nn.Parameter(leaf) for name, leaf in start.items()}
        self.optimizer = torch.optim.AdamW(self.heads.values(), lr=RATE, weight_decay=DECAY)

    def step(self, user: Any, x: Any, label: Any) -> None:
        """One update from examples [B] of these users."""
        self.optimizer.zero_grad()
        mask = torch.nn.functional.one_hot(user, len(self.heads["b1"])).float()
        own = {k: (mask @ p.flatten(1)).view(len(user), *p.shape[1:]) for k, p in self.heads.items()}
        h = torch.tanh(torch.bmm(x[:, None], own["w1"])[:, 0] + own["b1"])
        out = torch.bmm(h[:, None], own["w2"])[:, 0] + own["b2"]
        torch.nn.functional.cross_entropy(out, label.long()).backward()
        self.optimizer.step()


def _loss(s: Any, label: Any) -> Any:
    # The sum over users of each user's mean, so that every head has a rate of its own.
    return torch.nn.functional.binary_cross_entropy_with_logits(s, label, reduction="none").mean(dim=1).sum()


def _parts(rows: Any, *shapes: tuple[int, int]) -> Any:
    return zip(rows.split([a * b for a, b in shapes], dim=1), shapes, strict=True)


def _tensors(tree: Shared) -> Shared:
    return {name: torch.tensor(np.asarray(leaf)) for name, leaf in tree.items()}
