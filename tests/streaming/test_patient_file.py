"""A file is read whole, or from any byte on, whatever happens on the way; what cannot pass fails at once."""

import threading
import time

import aiohttp
import numpy as np
import pytest

from regmix_hf.corpus.patient_file import BRIEF, PATIENT, open_bytes

from .server import ALL_FAULTS, FileServer

CONTENT = np.random.default_rng(0).bytes(300_000)


def read(address: str, start: int = 0, size: int = 10_000) -> bytes:
    with open_bytes(address) as file:
        file.seek(start)
        return b"".join(iter(lambda: file.read(size), b""))


@pytest.mark.parametrize("start", [0, 1, 299_999, 300_000, 400_000])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_any_byte_can_be_the_first(files: FileServer, hurried: None, start: int, ranges: bool) -> None:
    files.ranges = ranges
    assert read(files.add("a.bin", CONTENT), start) == CONTENT[start:]


@pytest.mark.parametrize("fault", ALL_FAULTS, ids=str)
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_faults_lose_and_double_nothing(
    files: FileServer, hurried: None, fault: int | str, ranges: bool
) -> None:
    files.ranges = ranges
    address = files.add("a.bin", CONTENT[:60_000])
    files.fail(1, 0.3, [fault])
    assert read(address, 7, 20_000) == CONTENT[7:60_000]


def test_only_what_failed_is_asked_for_again(files: FileServer, hurried: None) -> None:
    address = files.add("a.bin", CONTENT)
    files.fail(3, 0.3, ["drop"])
    assert read(address) == CONTENT
    assert 300_000 < files.num_bytes() < 1.5 * 300_000


def test_a_place_further_on_is_reached_without_what_lies_before(files: FileServer) -> None:
    assert read(files.add("a.bin", CONTENT), 290_000) == CONTENT[290_000:]
    assert files.num_bytes() == 10_000


@pytest.mark.parametrize(("status", "tries"), [(500, 20), (429, 20), (403, 1), (404, 1)])
def test_tries_are_bounded(files: FileServer, hurried: None, status: int, tries: int) -> None:
    address = files.add("a.bin", CONTENT)
    with open_bytes(address, PATIENT) as file:
        assert file.read(10) == CONTENT[:10]
        before = len(files.sent)
        files.fail(0, 1.0, [status])
        with pytest.raises((aiohttp.ClientResponseError, FileNotFoundError)):
            file.read(10)
    assert len(files.sent) - before >= tries


def test_first_look_at_a_wrong_address_ends_soon(hurried: None) -> None:
    with open_bytes("http://127.0.0.1:9/a.bin", BRIEF) as file, pytest.raises(FileNotFoundError, match="127"):
        file.read(10)


def test_closing_ends_the_waits(files: FileServer) -> None:
    address = files.add("a.bin", CONTENT)
    file = open_bytes(address, 10)
    file.read(10)
    files.fail(0, 1.0, [503])
    failed = []

    def read_on() -> None:
        try:
            file.read(10)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=read_on)
    thread.start()
    time.sleep(0.3)
    file.close()
    thread.join(5)
    assert not thread.is_alive()
    assert failed
