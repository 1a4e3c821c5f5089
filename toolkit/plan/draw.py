"""A plan on the terminal: four small tables."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from toolkit.plan.memory import total
from toolkit.plan.plan import GIGA, Plan
from toolkit.plan.rows import SPOKEN, Row


def draw(plan: Plan) -> Group:
    """Draw a plan, its notes and its warnings."""
    shown: list[RenderableType] = []
    for table, below in ((_parts(plan), ""), _speech(plan), _memory(plan), _data(plan)):
        shown += [table, *([below] if below else []), ""]
    shown += [Text(f"note: {note}", "dim") for note in plan.notes]
    shown += [Text(f"WARNING: {warning}", "bold red") for warning in plan.warnings]
    return Group(*shown)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table


def _parts(plan: Plan) -> Table:
    table = _table("Parameters", "part", "trained", "frozen", "weights, GB")
    for part in plan.parts:
        name = " ".join(word for word in (part.part, part.name, part.model) if word)
        table.add_row(name, f"{part.trained:,}", f"{part.frozen:,}", _giga(part.weights))
    trained, frozen, weights = (sum(getattr(p, key) for p in plan.parts) for key in ("trained", "frozen", "weights"))
    table.add_row("all", f"{trained:,}", f"{frozen:,}", _giga(weights), style="bold")
    return table


def _speech(plan: Plan) -> tuple[Table, str]:
    rows, most = plan.rows, "" if plan.rows.exact else "at most "
    table = _table("Rows", "", "mean", "longest")
    for title, value in (
        ("seconds of speech", lambda row: f"{row.seconds:.1f}"),
        ("frames", lambda row: f"{row.frames:,}"),
        (f"embeddings{', at most' if not rows.exact else ''}", lambda row: f"{row.embeddings:,}"),
        ("tokens of the transcript, about", lambda row: f"{row.spoken:,}"),
        ("tokens of the prompt, about", lambda row: f"{row.prompt:,}"),
        ("supervised tokens", lambda row: f"{row.answer:,}"),
        ("tokens of the row, at most", lambda row: f"{row.tokens:,}"),
    ):
        table.add_row(title, *(_shown(value, row) for row in (rows.mean, rows.longest)))
    typical = "" if rows.exact else f", about {SPOKEN:g} if they are as many as tokens are said"
    return table, f"{rows.frame_rate:g} frames a second; {most}{rows.rate:.2f} embeddings a second{typical}"


def _shown(value: object, row: Row) -> str:
    assert callable(value)
    return str(value(row))


def _memory(plan: Plan) -> tuple[Table, str]:
    table = Table(title="Memory of one process", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("stage", "what", "GB", "how"):
        table.add_column(column, justify="right" if column == "GB" else "left", overflow="fold")
    for stage, items in plan.memory.items():
        for number, item in enumerate(items):
            table.add_row("" if number else stage, item.what, _giga(item.bytes), Text(item.how, "dim"))
        table.add_row("", "all", _giga(total(items)), "", style="bold")
    together = f"{plan.together} rows in a forward pass; " if "train" in plan.memory else ""
    return table, f"{together}CUDA itself (about 1 GB) and what is lost between blocks come on top"


def _data(plan: Plan) -> tuple[Table, str]:
    table = _table("Data", "split", "hours", "utterances", "from")
    for split, amount in plan.there.items():
        table.add_row(split, f"{amount.hours:,.2f}", f"{amount.utterances:,}", amount.source)
    if plan.work is None:
        return table, ""
    work = plan.work
    lines = [
        f"{work.examples:,} examples; {work.steps_per_epoch:,} steps an epoch; {work.steps:,} steps are "
        f"{work.epochs:.2f} epochs",
        f"{work.cache / GIGA:,.1f} GB of frames on disk" if work.cache else "no frames on disk",
    ]
    if work.answers:
        asked = ", ".join(f"{count:,} answers for {split}" for split, count in work.answers.items())
        lines.append(f"{asked}: {work.answer_tokens / 1e6:,.1f} M tokens at most")
    if plan.answering_hours is not None:
        lines.append(f"{plan.answering_hours:,.1f} hours to generate them, at most")
    return table, "\n".join(lines)


def _giga(count: int) -> str:
    return f"{count / GIGA:,.2f}"
