"""Measuring contenders in turns."""
import statistics
import time


def run_seconds(call, seconds):
    """The times of `call` over about so many seconds, after one that is not counted; at least three."""
    call()
    times = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def median_seconds(call, seconds):
    """The median time of `call`."""
    return statistics.median(run_seconds(call, seconds))


class Outcome:
    """Rates of every contender, a list over the rounds each; higher is better."""

    def __init__(self, rates):
        self.rates = rates

    def median(self, name):
        return statistics.median(self.rates[name])

    def ratios(self, name, others):
        """Of `name` to the fastest of the others, round by round; empty if there are none."""
        others = [other for other in others if other in self.rates]
        if not others:
            return []
        return [mine / max(self.rates[other][turn] for other in others) for turn, mine in enumerate(self.rates[name])]


def in_turns(contenders, rounds):
    """Calls every contender (by name, a function that measures a rate) once a round, beginning with another one each time."""
    names = list(contenders)
    rates = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            rates[name].append(contenders[name]())
    return Outcome(rates)
