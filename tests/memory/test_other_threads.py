from __future__ import annotations

import mmap
import sys
import threading

import pytest

from runmem.memory.other_threads import OtherThreads

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")


def test_the_page_faults_of_the_named_threads_are_counted_and_no_others() -> None:
    threads = OtherThreads()
    named, begin, done, end = (threading.Event() for _ in range(4))

    def touch() -> None:
        with mmap.mmap(-1, 8 << 20) as block:
            for at in range(0, len(block), mmap.PAGESIZE):
                block[at] = 1

    def other() -> None:
        threads.add_current()
        threads.add_current()
        named.set()
        begin.wait(30)
        touch()
        done.set()
        end.wait(30)

    thread = threading.Thread(target=other, name="with ) in its name")
    thread.start()
    assert named.wait(30)
    assert len(threads) == 1
    before = threads.page_faults()
    touch()
    assert threads.page_faults() - before < 1000
    begin.set()
    assert done.wait(30)
    assert threads.page_faults() - before >= 2048
    end.set()
    thread.join()


def test_no_threads_have_no_page_faults() -> None:
    assert OtherThreads().page_faults() == 0
