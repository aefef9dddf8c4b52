"""What feedback has taught, for decisions: the bandit, loaded when there is something to know, for any thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from edgemoe.config import Config
from edgemoe.config.settings import CLOUD, LOCAL
from edgemoe.errors import EdgeMoEError, ReadError
from edgemoe.routing.router import Router

if TYPE_CHECKING:
    from edgemoe.routing.feedback import Bandit


class Learner:
    """Local or cloud, as ratings of answers have taught. Until the first rating it changes nothing.

    The prior of the cloud's quality is 1, that of the local model 1 - the probability that a strong model is needed.
    Their difference is that probability, and stays one to compare with the threshold when ratings have moved both.
    """

    def __init__(self, config: Config, router: Router) -> None:
        self._config, self._router = config, router
        self._bandit: Bandit | None = None
        self._lock = threading.Lock()
        self.problem: str | None = None
        """Why what was learned cannot be used."""

    def strong(self, prompt: str, offline: float) -> float | None:
        """The probability that a strong model is needed; None where nothing was learned."""
        with self._lock:
            if not self._ready():
                return None
            assert self._bandit is not None
            scores = self._bandit.scores(self._bandit.embed(prompt), _priors(offline))
            return min(max(scores[CLOUD] - scores[LOCAL], 0.0), 1.0)

    def choose(self, prompt: str, offline: float, cost: float) -> str | None:
        """The route for a prompt that is about to be answered, where a budget and a number of prompts say what each may
        cost (PILOT); None where they do not, or nothing was learned."""
        budget, prompts = self._config.budget, self._config.prompts_per_day
        if budget is None or prompts is None or cost <= 0:
            return None
        with self._lock:
            if not self._ready():
                return None
            assert self._bandit is not None
            choice = self._bandit.choose(
                self._bandit.embed(prompt),
                _priors(offline),
                {LOCAL: 0.0, CLOUD: cost},
                budget=budget.per_day / prompts,
                price=self._config.threshold / cost,
            )
            return choice.route

    def rate(self, prompt: str, offline: float, route: str, *, good: bool) -> int:
        """Learns from one answer and saves; how many ratings there are now.

        Raises:
            ReadError: when what was learned before cannot be read.
            WriteError: when it cannot be saved; then nothing of it is learned, and it can be rated again.
        """
        with self._lock:
            bandit = self._load()
            bandit.update(bandit.embed(prompt), route, _priors(offline)[route], float(good))
            return bandit.ratings

    def save(self) -> None:
        """Keeps which prompts were decided, for the price of the next ones."""
        with self._lock:
            if self._bandit is not None:
                self._bandit.save()

    def _ready(self) -> bool:
        if not self._config.feedback or self.problem is not None:
            return False
        if self._bandit is None and not self._config.learned.exists():
            return False
        try:
            self._load()
        except ReadError as error:
            self.problem = str(error)
            return False
        return True

    def _load(self) -> Bandit:
        if not self._config.feedback:
            raise EdgeMoEError("feedback = false: nothing is learned")
        if self._bandit is None:
            from edgemoe.routing.feedback import Bandit

            self._bandit = Bandit.load(self._config.learned, self._router)
        return self._bandit


def _priors(offline: float) -> dict[str, float]:
    return {LOCAL: 1.0 - offline, CLOUD: 1.0}
