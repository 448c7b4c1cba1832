from __future__ import annotations

import random

from runmem.store.number_set import NumberSet


def test_it_is_a_set_of_numbers() -> None:
    choose = random.Random(1)
    numbers, plain = NumberSet(), set[int]()
    for _ in range(5000):
        number = choose.choice((choose.randrange(3000), choose.randrange(10**6), choose.randrange(10**18)))
        assert numbers.add(number) == (number not in plain)
        plain.add(number)
        other = choose.choice((number, choose.randrange(3000), choose.randrange(10**18)))
        assert (other in numbers) == (other in plain)
    assert len(numbers) == len(plain)
