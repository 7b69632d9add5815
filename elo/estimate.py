"""From counts to ratings that say how sure they are: fit, sandwich, draws, in the order that needs least."""

from dataclasses import dataclass

import numpy as np

from elo.intervals import Bootstrap, bootstrap, choose_clusters
from elo.paired import Fit, fit
from elo.sandwich import Sandwich, critical_value, sandwich
from elo.settings import Settings
from elo.tally import Tally


@dataclass(frozen=True, eq=False)
class Estimate:
    """A fit with its standard errors and its draws, which are None if none were asked for."""

    fit: Fit
    errors: Sandwich
    drawn: Bootstrap | None

    @property
    def draws(self) -> np.ndarray:
        """(r, m) bootstrap draws of θ; r = 0 without."""
        return self.drawn.draws if self.drawn else np.empty((0, len(self.fit.names)))

    def half_widths(self, anchor: str | None = None) -> np.ndarray:
        """(m,) half the width of the 95 % interval of each θ, or of its difference to the anchor's."""
        m = len(self.fit.names)
        if anchor is None:
            error = np.sqrt(np.diag(self.errors.covariance)[:m])
        else:
            error = self.errors.differences()[self.fit.names.index(anchor)]
        return critical_value(self.errors.freedom) * error


def estimate(votes: Tally, settings: Settings) -> Estimate:
    """Fit the model, with standard errors by the clusters that the settings choose.

    Draws are over one group: where both judges and prompts count, the one whose variance is larger.
    Raises NoMaximum where no finite answer exists, SettingsError for clusters that the votes lack.
    """
    groups = choose_clusters(votes, settings.cluster)
    counts = votes.counts
    fitted = fit(counts, settings.method, side=settings.side, prior=settings.prior)
    errors = sandwich(counts, fitted, groups)
    if not settings.bootstrap:
        return Estimate(fitted, errors, None)
    taken = max(groups, key=lambda group: sandwich(counts, fitted, [group]).design_effect, default="vote")
    drawn = bootstrap(counts, fitted, rounds=settings.bootstrap, cluster=taken, seed=settings.seed)
    return Estimate(fitted, errors, drawn)
