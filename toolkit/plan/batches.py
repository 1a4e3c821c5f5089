"""The batches of a training, made by the very code that makes them there, and looked through: nothing is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass, field
from typing import Any

from toolkit.config import Config
from toolkit.data.budget import Budget, Share, padded_cost
from toolkit.data.order import StepOrder, turns
from toolkit.errors import ConfigError, DataError
from toolkit.interfaces import LOSSES
from toolkit.plan.librispeech_like import librispeech_like
from toolkit.plan.manifest import read_manifest
from toolkit.plan.sizes import model_without_weights
from toolkit.stages.steps import budget_of, costs_of, views_of

SHOWN = 5
"""faults of a kind that are told one by one"""


@dataclass
class Spread:
    """Least, mean and most of some numbers."""

    least: float = float("inf")
    most: float = 0.0
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Add a number."""
        self.least, self.most = min(self.least, value), max(self.most, value)
        self.total, self.count = self.total + value, self.count + 1

    @property
    def mean(self) -> float:
        """Their mean; 0 of none."""
        return self.total / self.count if self.count else 0.0

    def as_json(self) -> dict[str, float]:
        """Return plain values."""
        return {"least": self.least, "mean": round(self.mean, 3), "most": self.most} if self.count else {}


@dataclass
class Simulated:
    """What ranks and workers would do in some epochs."""

    ranks: int
    workers: int
    examples: int
    positions: int
    """of all examples in the first epoch"""
    steps: list[int] = field(default_factory=list)
    """of each epoch"""
    rows: Spread = field(default_factory=Spread)
    """of a step, over all ranks"""
    cost: Spread = field(default_factory=Spread)
    """positions of a step over all ranks, padding and all"""
    passes: Spread = field(default_factory=Spread)
    """forward passes of a rank in a step"""
    pass_cost: Spread = field(default_factory=Spread)
    """positions of a forward pass, padding and all"""
    real: int = 0
    """positions of rows that are run"""
    waited: int = 0
    """positions that ranks could have run while they wait for the dearest of a step"""
    idle: int = 0
    """forward passes that count nothing, since a step has fewer rows than there are passes"""
    left_over: Spread = field(default_factory=Spread)
    """examples of an epoch that do not fill a step: other ones in each epoch, where steps go by rows"""
    faults: list[str] = field(default_factory=list)
    """duplicates, drops and batches above their budget"""
    notes: tuple[str, ...] = ()

    @property
    def padding(self) -> float:
        """Share of what is run that is padding."""
        return 1 - self.real / self.cost.total if self.cost.total else 0.0

    @property
    def imbalance(self) -> float:
        """Share of the ranks' time that they wait for the dearest, if time goes by positions."""
        return self.waited / (self.cost.total + self.waited) if self.cost.total else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        spreads = {name: value.as_json() for name, value in vars(self).items() if isinstance(value, Spread)}
        return {**asdict(self), **spreads, "padding": self.padding, "imbalance": self.imbalance}


def plan_batches(
    config: Config, ranks: int, workers: int, epochs: int, like_librispeech: int | None = None
) -> Simulated:
    """Simulate the batches of a training from its manifests, or of so many utterances as long as LibriSpeech's.

    Raises:
        ToolkitError: it could not be trained, nothing is prepared, or nobody knows the sizes of a model.
    """
    if min(ranks, epochs) < 1 or workers < 0:
        raise ConfigError("--ranks and --epochs are at least 1, and --workers at least 0")
    given = config.train
    if not given.batch_tokens and given.batch_size % ranks:
        raise ConfigError(f"train.batch_size={given.batch_size} does not divide among {ranks} processes")
    loss = LOSSES.build(config.loss)
    count = like_librispeech
    manifest = read_manifest(config, loss) if count is None else librispeech_like(config, loss, count)
    model = model_without_weights(config)
    if not manifest.examples:
        raise DataError(f"there is nothing to train on in {config.data_dir}")
    costs = costs_of(manifest.examples, model, manifest.tokenizer, loss, views_of(config), manifest.unknown)
    rows = given.batch_size, given.micro_batch_size
    order = StepOrder(len(manifest.examples), costs, *rows, config.seed, budget_of(config))
    found = simulate(order, ranks, workers, epochs)
    asked = [(e.id, e.prompt, tuple(other.id for other in e.others), e.history) for e in manifest.examples]
    twice = [f"{ask[0]} under {ask[1]!r}" for ask, count in Counter(asked).items() if count > 1]
    found.faults += _told("twice in the manifest", twice)
    found.notes = manifest.notes
    return found


def simulate(order: StepOrder, ranks: int, workers: int, epochs: int) -> Simulated:
    """Have every rank and worker make its steps.

    Args:
        order: of the training.
        ranks: processes of the training.
        workers: of each of them; 0 is none, as 1 is.
        epochs: how many, from the first.
    """
    found = Simulated(ranks, workers, order.count, sum(order.costs(0)))
    for epoch in range(epochs):
        steps, costs = order.steps_of(epoch), order.costs(epoch)
        found.steps.append(len(steps))
        made = Counter(s for w in range(max(workers, 1)) for s in turns((steps.start, steps.stop), w, max(workers, 1)))
        wrong = [f"step {step} is made {made[step]} times" for step in {*steps, *made} if made[step] != (step in steps)]
        found.faults += _told(f"epoch {epoch}: workers", wrong)
        seen: Counter[int] = Counter()
        planned: set[int] = set()
        for step in sorted(made):
            planned.update(order.rows(step))
            _look(found, step, [order(step, rank, ranks) for rank in range(ranks)], costs, order.budget, seen)
        left = order.count - len(planned)
        found.left_over.add(left)
        by_cost = order.budget is not None and order.budget.step > 0
        expected = 0 if by_cost else order.count % min(order.size, order.count)
        if left != expected:
            found.faults.append(f"epoch {epoch}: {left} examples are in no step, not {expected}")
        twice = [f"example {i} {count} times" for i, count in sorted(seen.items()) if count > 1]
        found.faults += _told(f"epoch {epoch}: seen more than once", twice)
        found.faults += _told(
            f"epoch {epoch}: seen by no rank", [f"example {i}" for i in sorted(planned - seen.keys())]
        )
    return found


def _look(
    found: Simulated, step: int, ranks: Seq[Seq[Share]], costs: Seq[int], budget: Budget | None, seen: Counter[int]
) -> None:
    """Look at what all ranks do in one step."""
    rows = 0
    spent = []
    for shares in ranks:
        counted = [share.rows for share in shares if not share.idle]
        seen.update(row for batch in counted for row in batch)
        rows += sum(map(len, counted))
        found.real += sum(costs[row] for batch in counted for row in batch)
        found.passes.add(len(shares))
        found.idle += len(shares) - len(counted)
        spent.append(sum(padded_cost(costs, batch) for batch in counted))
        for batch in counted:
            cost, most = padded_cost(costs, batch), budget.forward if budget else 0
            found.pass_cost.add(cost)
            if most and cost > most and len(batch) > 1:
                found.faults.append(f"step {step}: a forward pass of {len(batch)} rows costs {cost}, more than {most}")
    if budget and budget.step and rows > 1 and sum(spent) > budget.step:
        found.faults.append(f"step {step}: {rows} rows cost {sum(spent)}, more than {budget.step}")
    found.rows.add(rows)
    found.cost.add(sum(spent))
    found.waited += max(spent) * len(spent) - sum(spent)


def _told(what: str, cases: list[str]) -> list[str]:
    more = [f"{what}: {len(cases) - SHOWN} more"] if len(cases) > SHOWN else []
    return [f"{what}: {case}" for case in cases[:SHOWN]] + more
