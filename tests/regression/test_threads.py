import threading

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from regmix_hf.regression.threads import one_blas_thread, side_by_side


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_every_blas_library_has_one_thread_inside_and_as_many_as_before_outside():
    np.linalg.inv(np.eye(2))
    with threadpool_limits(2, "blas"):
        before = blas_threads()
        for _ in range(2):
            with one_blas_thread():
                assert set(blas_threads()) == {1}
            assert blas_threads() == before


def test_side_by_side_things_keep_their_order_and_one_alone_stays_in_this_thread():
    assert side_by_side(lambda x: x * x, range(5), 2) == [0, 1, 4, 9, 16]
    both = threading.Barrier(2)
    threads = side_by_side(lambda _: (both.wait(20), threading.current_thread())[1], range(2), 2)
    assert len(set(threads)) == 2
    assert side_by_side(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]
