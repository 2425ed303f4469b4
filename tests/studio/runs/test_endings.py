import pytest

from studio.runs import endings
from studio.runs.endings import MEMORY, RESTART, Ending, card_trouble, death, evidence, leaves_no_card, memory_kills


@pytest.mark.parametrize(
    ("words", "cause", "remedy"),
    [
        ("CUDA error: device-side assert triggered", "device-side assert", "report"),
        ("CUDA error: unspecified launch failure", "crashed, or was ended", "overclocking"),
        ("CUDA error: an illegal memory access was encountered", "crashed, or was ended", "overclocking"),
        ("CUDA error: the launch timed out and was terminated", "crashed, or was ended", "overclocking"),
        ("CUDA error: an illegal instruction was encountered", "crashed, or was ended", "overclocking"),
        ("CUDA error: uncorrectable NVLink error detected during the execution", "crashed, or was ended", "Resume"),
        ("CUDA error: no CUDA-capable device is detected", "No NVIDIA card is found any more", "nvidia-smi"),
        (
            "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
            "No NVIDIA card",
            "Restart",
        ),
        ("CUDA error 804: forward compatibility was attempted on non supported HW", "driver was updated", "Restart"),
        ("Failed to initialize NVML: Driver/library version mismatch", "driver was updated", "Restart"),
        ("CUDA error: driver shutting down", "driver was reset", "Resume"),
        ("CUDA unknown error - this may be due to an incorrectly set up environment", "driver was reset", "restart"),
        ("CUDA error: unknown error", "driver was reset", "restart"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "Another program", "nvidia-smi"),
        ("NVRM: Xid (PCI:0000:01:00): 79, pid=1234, GPU has fallen off the bus.", "fell off the bus", "power"),
        ("Unable to determine the device handle for GPU0: GPU is lost. Reboot the system", "fell off the bus", "power"),
        ("CUDA error: uncorrectable ECC error encountered", "could not correct", "faulty"),
    ],
)
def test_what_befell_the_card_is_known_by_the_words_of_its_error(words, cause, remedy):
    ending = card_trouble(f"  {words}\nCUDA kernel errors might be asynchronously reported at some other API call.")
    assert cause in ending.message
    assert remedy in ending.hint


@pytest.mark.parametrize("words", ["", "unknown error", "CUDA error: invalid argument", "AssertionError: loss"])
def test_no_cause_is_named_that_the_words_do_not_give(words):
    assert card_trouble(words) is None


@pytest.mark.parametrize(
    ("exit_code", "signal", "found", "lines", "cause"),
    [
        (-9, "SIGKILL", "", [], "by you, or by the system"),
        (-9, "SIGKILL", MEMORY, [], "by the system because the computer's main memory ran out"),
        (None, None, RESTART, [], "switched off or restarted"),
        (-11, "SIGSEGV", "", [], "crashed inside a library"),
        (-7, "SIGBUS", "", [], "disk full"),
        (-1, "SIGHUP", "", [], "session closed"),
        (-31, "SIGSYS", "", [], "SIGSYS"),
        (-6, "SIGABRT", "", ["terminate called", "CUDA error: driver shutting down"], "driver was reset"),
        (3, None, "", [], "exit code 3"),
        (None, None, "", [], "was killed, or the computer was switched off"),
        (-11, "SIGSEGV", MEMORY, [], "crashed inside a library"),
    ],
)
def test_every_death_has_its_true_name(exit_code, signal, found, lines, cause):
    assert cause in death(exit_code, signal, found, lines).message


def test_the_kernels_counter_is_read_where_there_is_one(tmp_path):
    counters = tmp_path / "vmstat"
    assert memory_kills(counters) is None
    counters.write_text("nr_free_pages 12\noom_kill 7\nunevictable_pgs 0\n")
    assert memory_kills(counters) == 7
    counters.write_text("nr_free_pages 12\n")
    assert memory_kills(counters) is None


@pytest.mark.parametrize(
    ("before", "now", "signal", "found"),
    [
        (7, 8, "SIGKILL", MEMORY),
        (7, 7, "SIGKILL", ""),
        (7, 8, "SIGSEGV", ""),
        (None, 8, "SIGKILL", ""),
        (7, None, "SIGKILL", ""),
    ],
)
def test_a_kill_is_put_down_to_memory_only_if_the_kernel_has_counted_one(monkeypatch, before, now, signal, found):
    monkeypatch.setattr(endings, "memory_kills", lambda: now)
    monkeypatch.setattr(endings.psutil, "boot_time", lambda: 100.0)
    assert evidence(200.0, before, signal) == found


def test_a_run_from_before_the_computer_started_was_ended_by_that(monkeypatch):
    monkeypatch.setattr(endings.psutil, "boot_time", lambda: 300.0)
    assert evidence(200.0, None, None) == RESTART
    assert evidence(400.0, None, None) == ""


@pytest.mark.parametrize(
    ("words", "lasts"),
    [
        ("GPU has fallen off the bus", True),
        ("CUDA error: driver shutting down", True),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", True),
        ("CUDA error: device-side assert triggered", False),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_some_troubles_leave_the_next_run_no_card_and_others_a_fresh_one(words, lasts):
    trouble = card_trouble(words)
    assert leaves_no_card(trouble) is lasts
    # As the engine's last word has it, and as a supervisor says it of one that left none.
    assert leaves_no_card(Ending(trouble.message)) is lasts
    assert leaves_no_card(death(1, None, "", [words])) is lasts


def test_an_ending_that_is_none_of_the_cards_leaves_it_as_it_was():
    assert not leaves_no_card(Ending("No row is whole."))
    assert not leaves_no_card(death(-9, "SIGKILL", MEMORY, []))
