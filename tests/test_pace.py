"""How many threads compute, on traces of token times."""

from __future__ import annotations

import random
from collections.abc import Callable

import llama_cpp
import pytest

from edgemoe import Llama
from edgemoe.default_model import default_model_path
from edgemoe.pace import BETTER, LONGEST_REST, REST, WINDOW, Pace


def follow(pace: Pace, tokens: int, time: Callable[[int, int], float]) -> list[int]:
    """Threads of each token; `time` is given the token's number and the threads."""
    threads = []
    for i in range(tokens):
        threads.append(pace.threads)
        pace.told(time(i, pace.threads))
    return threads


def changes(threads: list[int]) -> int:
    return sum(a != b for a, b in zip(threads, threads[1:], strict=False))


def even(_: int, threads: int) -> float:
    """Twice the threads, half the time."""
    return 0.4 / threads


def test_an_even_machine_is_left_alone() -> None:
    assert changes(follow(Pace(4), 5000, even)) == 0


def test_noise_is_no_slowing() -> None:
    noise = random.Random(1)
    assert changes(follow(Pace(4), 5000, lambda i, n: even(i, n) * noise.uniform(0.9, 1.15))) == 0
    spikes = random.Random(2)
    assert changes(follow(Pace(4), 5000, lambda i, n: even(i, n) * (5 if spikes.random() < 0.1 else 1))) == 0


def crowded(_: int, threads: int) -> float:
    """Another program has two of four cores: threads that wait for each other take turns there."""
    return {1: 0.4, 2: 0.2, 3: 0.35, 4: 0.5}[threads]


def cliff(taken: int, penalty: float, cores: int) -> Callable[[int, int], float]:
    """Others have `taken` cores: all threads wait for those that share one, which are `penalty` times as slow."""
    return lambda _, threads: even(_, threads) * (penalty if threads > cores - taken else 1)


CROWDS = [(cores, taken) for cores in (4, 8, 16) for taken in range(1, cores)]


@pytest.mark.parametrize("penalty", [2.0, 3.0])
@pytest.mark.parametrize(("cores", "taken"), CROWDS)
def test_the_leap_where_threads_begin_to_share_a_core_is_found(cores: int, taken: int, penalty: float) -> None:
    pace = Pace(cores)
    follow(pace, 100, even)
    load = cliff(taken, penalty, cores)
    threads = follow(pace, 5000, load)
    best = min(load(0, n) for n in range(1, cores + 1))
    settled = threads[8 * WINDOW :]
    assert sum(load(0, n) for n in settled) / len(settled) <= 1.03 * max(best, BETTER * load(0, cores))
    assert changes(threads) < 20


@pytest.mark.parametrize("penalty", [2.0, 3.0])
@pytest.mark.parametrize(("cores", "taken"), CROWDS)
def test_all_cores_are_used_again_after_any_crowd(cores: int, taken: int, penalty: float) -> None:
    pace = Pace(cores)
    follow(pace, 100, even)
    follow(pace, 1000, cliff(taken, penalty, cores))
    assert follow(pace, 12 * REST, even)[-1] == cores


def test_the_leap_is_found_through_noise() -> None:
    noise = random.Random(3)
    for cores, taken in CROWDS:
        pace = Pace(cores)
        follow(pace, 100, lambda i, n: even(i, n) * noise.uniform(0.9, 1.15))
        load = cliff(taken, 3.0, cores)
        follow(pace, 1000, lambda i, n, load=load: load(i, n) * noise.uniform(0.9, 1.15))
        best = min(load(0, n) for n in range(1, cores + 1))
        assert load(0, pace.threads) <= 1.15 * best, (cores, taken)


def test_fewer_threads_where_others_took_the_cores() -> None:
    pace = Pace(4)
    follow(pace, 100, even)
    threads = follow(pace, 2000, crowded)
    assert threads[10 * WINDOW] == 2
    assert threads.count(2) > 0.9 * len(threads)


def test_all_threads_again_when_the_others_are_gone() -> None:
    pace = Pace(4)
    follow(pace, 100, even)
    follow(pace, 1000, crowded)
    assert pace.threads == 2
    threads = follow(pace, 8 * REST, even)
    assert threads[-1] == 4


def test_heat_slows_all_alike_and_threads_stay() -> None:
    """Lower clocks: fewer threads are not faster, so one trial after another is given up, ever more rarely."""
    pace = Pace(4)
    follow(pace, 100, even)
    threads = follow(pace, 20000, lambda i, n: 2 * even(i, n))
    assert threads.count(4) > 0.99 * len(threads)
    assert changes(threads) <= 12


@pytest.mark.parametrize("load", [crowded, cliff(2, 3.0, 4), cliff(1, 2.0, 4)], ids=["slope", "two", "one"])
@pytest.mark.parametrize("period", [50, 200, 600, 2000])
def test_load_that_comes_and_goes_does_not_make_it_oscillate(period: int, load: Callable[[int, int], float]) -> None:
    pace = Pace(4)
    threads = follow(pace, 50000, lambda i, n: (even if i // period % 2 else load)(i, n))
    assert changes(threads) < 120
    assert min(threads) >= 1
    assert max(threads) <= 4


@pytest.mark.parametrize("penalty", [2.0, 3.0])
@pytest.mark.parametrize("cores", [8, 16])
@pytest.mark.parametrize("period", [50, 200, 600, 2000])
def test_crowds_of_any_size_that_come_and_go_cost_little(period: int, cores: int, penalty: float) -> None:
    chance = random.Random(period)
    crowds = [cliff(chance.randrange(cores), penalty, cores) for _ in range(50000 // period + 1)]
    pace = Pace(cores)
    threads = follow(pace, 50000, lambda i, n: crowds[i // period](i, n))
    assert changes(threads) < 120
    left_alone = sum(crowds[i // period](i, cores) for i in range(50000))
    assert sum(crowds[i // period](i, n) for i, n in enumerate(threads)) < 1.15 * left_alone


def test_trials_in_vain_come_ever_more_rarely() -> None:
    pace = Pace(4)
    slow = 1.0
    threads = []
    for _ in range(30):  # ever slower, so that each rest is followed by a trial
        slow *= 1.5
        threads += follow(pace, 4000, lambda i, n, slow=slow: slow * even(i, n))
    searches = sum(a == 4 and b != 4 for a, b in zip(threads, threads[1:], strict=False))
    assert searches < 8 + len(threads) / LONGEST_REST
    assert threads.count(4) > 0.98 * len(threads)


def test_one_thread_stays() -> None:
    assert set(follow(Pace(1), 500, lambda i, n: float(i + 1))) == {1}


# In a model


def test_a_model_follows_and_answers_the_same() -> None:
    with_threads = Llama(default_model_path(), n_ctx=128, n_threads=2, n_threads_batch=2)
    expected = with_threads("Once upon a time", max_tokens=12, temperature=0.0)["choices"][0]["text"]
    assert with_threads._residence._pace is None  # they were asked for
    with_threads.close()
    llm = Llama(default_model_path(), n_ctx=128)
    residence, context = llm._residence, llm._ctx.ctx
    residence._pace = Pace(2)
    llama_cpp.llama_set_n_threads(context, 2, 2)
    for seconds in [0.1] * WINDOW + [0.3] * WINDOW:
        residence._follow_pace(context, seconds)
    assert llama_cpp.llama_n_threads(context) == 1
    assert llama_cpp.llama_n_threads_batch(context) == 2
    text = llm("Once upon a time", max_tokens=12, temperature=0.0)["choices"][0]["text"]
    assert text == expected
    llm.close()
