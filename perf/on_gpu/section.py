"""What a section is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from on_gpu.cases import Case, Models
from on_gpu.figures import Budget
from on_gpu.lab import Lab

Row = dict[str, Any]


@dataclass
class Given:
    """What a section is given.

    Attributes:
        lab: the device.
        models: whose weights are run.
        budget: its time.
        emit: takes a row as soon as it is known.
        failed: how many cases did.
        settings: numbers that sections have defaults for, such as ``seconds``.
    """

    lab: Lab
    models: Models
    budget: Budget
    emit: Callable[[Row], None]
    settings: dict[str, float] = field(default_factory=dict)
    failed: int = 0

    def setting(self, name: str, default: float) -> float:
        """A number."""
        return self.settings.get(name, default)

    def each(self, cases: Iterable[Case]) -> Iterator[tuple[Case, Budget]]:
        """Cases with an equal part of the time that is left; says which there was none for."""
        todo = list(cases)
        for i, case in enumerate(todo):
            if self.budget.left <= 0:
                self.emit({**case.columns, "note": "no time was left"})
            else:
                yield case, self.budget.share(len(todo) - i)

    def tried(self, case: Case, work: Callable[[], None]) -> None:
        """Do something; what fails is a row that says so, and the others go on."""
        try:
            work()
        except Exception as error:
            self.failed += 1
            self.emit({**case.columns, "note": f"{type(error).__name__}: {error}"[:300]})
