"""The check of a GPU machine does not fail by itself: here it runs on the CPU.

Run: pytest -m slow tests/test_gpu_check.py (some minutes); without -m slow, its parts alone.
"""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def gpu_check(benchmark_script):
    return benchmark_script("gpu_check")


def test_a_check_that_breaks_is_a_line_of_the_page(gpu_check, tmp_path):
    def broken(setup):
        raise ValueError("one | two\nand a long story")

    def absent(setup):
        raise gpu_check.Skipped("needs two devices")

    setup = gpu_check.Setup(tmp_path, "cpu")
    rows = [gpu_check.attempt("a", broken, setup), gpu_check.attempt("b", absent, setup)]
    assert [verdict for _, verdict, _, _ in rows] == ["FAILED", "skipped"]
    page = gpu_check.render("cpu", rows, "", "")
    assert "| a | FAILED | ValueError: one / two | 0 |" in page and "needs two devices" in page


@pytest.mark.parametrize(("device", "verdict"), [("cuda", "skipped"), ("cpu", "FAILED")])
def test_what_gloo_cannot_send_from_a_gpu_is_no_failure_of_the_device(
    gpu_check, monkeypatch, device, verdict
):
    def lack(*_):
        raise RuntimeError("process 0 failed:\nTraceback\nRuntimeError: ProcessGroupGloo does not support it")

    monkeypatch.setattr(gpu_check, "launch", lack)
    setup = gpu_check.Setup(ROOT, device)
    _, found, said, _ = gpu_check.attempt("two", lambda s: gpu_check.two_processes(s, "fsdp"), setup)
    assert found == verdict and "ProcessGroupGloo does not support it" in said


def test_a_difference_above_its_bound_fails(gpu_check):
    assert gpu_check.within(1e-5, 1e-4, "gap") == "gap 1.0e-05"
    for value in (1e-3, float("nan")):
        with pytest.raises(AssertionError, match="above 1e-04"):
            gpu_check.within(value, 1e-4, "gap")


@pytest.mark.slow
def test_the_whole_script_passes_on_a_cpu(tmp_path):
    page = tmp_path / "page.md"
    command = [
        str(ROOT / "benchmarks/gpu_check.sh"),
        "--device",
        "cpu",
        "--minutes",
        "0.1",
        "--out",
        str(page),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert page.read_text().count("| ok |") >= 11 and "FAILED" not in page.read_text()
