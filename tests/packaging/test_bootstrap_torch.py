"""Which PyTorch is asked for on which machine, also where no index answers."""

import importlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

PAGE = (
    '<a href="torch-2.12.0%2Bcu128-cp311-cp311-linux_x86_64.whl">x</a>'
    '<a href="torch-2.13.0%2Bcu126-cp311-cp311-linux_x86_64.whl">x</a>'
)


@pytest.fixture
def torch_choice():
    return importlib.import_module("bootstrap_torch")


@pytest.fixture
def index_server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            is_known = self.path.startswith(("/cu126/", "/cu128/"))
            self.send_response(200 if is_known else 404)
            self.end_headers()
            self.wfile.write(PAGE.encode() if is_known else b"")

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("driver_version", "builds"),
    [
        (None, ("cpu",)),
        (11080, ("cpu",)),
        (12020, ("cu126",)),
        (12080, ("cu128", "cu126")),
        (13000, ("cu130", "cu128", "cu126")),
        (13020, ("cu130", "cu128", "cu126")),
    ],
)
def test_the_builds_are_those_that_the_driver_runs(torch_choice, driver_version, builds):
    assert torch_choice.torch_builds(driver_version) == builds


def test_the_tagged_build_is_asked_for_by_its_exact_name(torch_choice):
    offered = ["2.14.0", "2.13.0+cpu", "2.13.0"]
    requirement, sentence = torch_choice.choose_torch("2.13.0", ("cpu",), offered, is_linux=True)
    assert requirement == "torch==2.13.0+cpu"
    assert "CPU build" in sentence
    assert "200 MB" in sentence


def test_a_machine_with_a_gpu_never_takes_the_cpu_build_that_lies_beside_the_cuda_one(torch_choice):
    offered = ["2.13.0+cpu", "2.13.0"]
    requirement, sentence = torch_choice.choose_torch("2.13.0", ("cu130", "cu126"), offered, is_linux=True)
    assert requirement == "torch===2.13.0"
    assert "CUDA build" in sentence
    requirement, _ = torch_choice.choose_torch(
        "2.13.0", ("cu130", "cu126"), [*offered, "2.13.0+cu126"], is_linux=True
    )
    assert requirement == "torch==2.13.0+cu126"


def test_gigabytes_of_cuda_on_a_machine_without_gpu_are_announced(torch_choice):
    requirement, sentence = torch_choice.choose_torch("2.13.0", ("cpu",), ["2.13.0"], is_linux=True)
    assert requirement == "torch===2.13.0"
    assert "No CPU build" in sentence
    assert "3 GB" in sentence


def test_a_cpu_build_on_a_machine_with_a_gpu_is_announced(torch_choice):
    _, on_windows = torch_choice.choose_torch("2.13.0", ("cu130",), ["2.13.0"], is_linux=False)
    requirement, on_linux = torch_choice.choose_torch("2.13.0", ("cu130",), ["2.13.0+cpu"], is_linux=True)
    assert "cannot use the graphics card" in on_windows
    assert "cannot use the graphics card" in on_linux
    assert requirement == "torch==2.13.0"


def test_the_pin_stays_exact_when_nothing_is_known_of_the_indexes(torch_choice):
    requirement, _ = torch_choice.choose_torch("2.13.0", ("cpu",), [], is_linux=True)
    assert requirement == "torch==2.13.0"


def test_versions_are_read_from_pips_list(torch_choice):
    printed = "WARNING: pip index is experimental.\ntorch (2.15.0)\nAvailable versions: 2.15.0, 2.13.0+cpu, 2.13.0\n"
    assert torch_choice.parse_versions(printed) == ["2.15.0", "2.13.0+cpu", "2.13.0"]
    assert torch_choice.parse_versions("ERROR: No matching distribution found") == []


def test_the_first_index_with_this_version_of_the_build_is_taken(torch_choice, index_server):
    found = torch_choice.find_pytorch_index("2.13.0", ("cu130", "cu128", "cu126"), index_server)
    assert found == (
        "cu126",
        f"{index_server}/cu126",
    )  # cu130 is unknown there, cu128 has an older version only
    assert torch_choice.find_pytorch_index("2.13.0", ("cpu",), index_server) is None


def test_an_index_that_cannot_be_reached_is_left_out_at_once(torch_choice):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    began = time.monotonic()
    assert torch_choice.find_pytorch_index("2.13.0", ("cu130", "cu126"), f"http://127.0.0.1:{port}") is None
    assert time.monotonic() - began < 2


def test_an_index_that_accepts_and_stays_silent_is_left_out_in_time(torch_choice, monkeypatch):
    monkeypatch.setattr(torch_choice, "PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert torch_choice.find_pytorch_index("2.13.0", ("cu130", "cu126"), address) is None
        assert time.monotonic() - began < 2
