import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from regmix_hf.regression.threads import one_blas_thread


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
