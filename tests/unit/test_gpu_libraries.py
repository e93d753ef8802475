"""Where CUDA's libraries are looked for on a box, and what is said where they lack."""

from pathlib import Path

import pytest

from appliance.workers.gpu_libraries import DRIVER, _found, folder_of, is_loaded, lacking_words

ALL = {"libcublasLt.so.13", "libcublas.so.13", "libcudart.so.13", "libcurand.so.10", "libcudnn.so.9", DRIVER}


@pytest.mark.parametrize(
    "place",
    [
        "home/ann/.local/lib/python3.12/site-packages/nvidia/cu13/lib",
        "srv/venv/lib/python3.11/site-packages/nvidia/cudnn/lib",
        "usr/local/lib/python3.11/dist-packages/nvidia/cudnn/lib",
        "usr/lib/python3/dist-packages/nvidia/cu13/lib",
        "usr/local/cuda-13.0/lib64",
        "usr/local/cuda/targets/x86_64-linux/lib",
    ],
)
def test_libraries_are_found_where_pip_and_nvidia_put_them(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    environ = {"HOME": "/home/ann", "VIRTUAL_ENV": "/srv/venv"}
    assert list(_found(tmp_path, environ)) == [tmp_path / place]


def test_without_a_home_and_an_environment_the_systems_are_found(tmp_path: Path) -> None:
    (tmp_path / "usr/local/cuda-13.0/lib64").mkdir(parents=True)
    assert list(_found(tmp_path, {})) == [tmp_path / "usr/local/cuda-13.0/lib64"]


def test_the_folder_of_a_library_is_where_the_loader_finds_it() -> None:
    assert Path(folder_of("libc.so.6"), "libc.so.6").exists()
    assert folder_of("libnobody.so.1") == ""


def test_a_library_is_loaded_once_this_process_has_it() -> None:
    assert is_loaded("libc.so.6")
    assert not is_loaded("libnobody.so.1")


def words(*lacking: str) -> str:
    def load(name: str) -> None:
        assert name in ALL
        if name in lacking:
            raise OSError(f"{name}: cannot open shared object file")

    return lacking_words("13.0", load)


def test_what_lacks_is_named_with_how_to_get_it() -> None:
    assert words() == ""
    assert words(DRIVER) == "there is no NVIDIA driver (libcuda.so.1): install it"
    told = words("libcudnn.so.9", "libcublas.so.13")
    assert told.startswith("libcublas.so.13, libcudnn.so.9 cannot be loaded: install CUDA 13 and cuDNN 9")
    assert "pip install nvidia-cublas nvidia-cuda-runtime nvidia-curand nvidia-cufft nvidia-cudnn-cu13" in told
    assert words(*ALL).startswith("there is no NVIDIA driver")
