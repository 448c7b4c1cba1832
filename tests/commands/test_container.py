"""`@container`: with engines of our own that take the arguments of the real ones and run the command as it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runmem.commands.decorators import binary, container, mpi
from runmem.errors import CommandError, TaskDeclarationError
from runmem.graph.directions import FILE_IN, FILE_OUT, INOUT
from runmem.graph.task import task

ENGINE = """
    import json, os, subprocess, sys
    # Writes down its arguments, and runs what follows the image in the folder that it is told.
    words = sys.argv[1:]
    json.dump(words, open({record!r}, "w"))
    image = words.index("an-image")
    folder = words[words.index({folder!r}) + 1]
    sys.exit(subprocess.run(words[image + 1:], cwd=folder).returncode)
"""


@pytest.fixture
def engine(programs, folder):
    """Return a function that makes an engine, and one that returns the arguments of its last call."""

    # The Python of the image: without packages, so without cloudpickle.
    programs("python3", "import os, sys; os.execv(sys.executable, [sys.executable, '-S', *sys.argv[1:]])")

    def make(name, folder_option):
        programs(name, ENGINE.format(record=str(folder / "arguments"), folder=folder_option))
        return lambda: json.loads((folder / "arguments").read_text())

    return make


@pytest.mark.parametrize(
    ("engine_name", "program", "option"),
    [
        ("DOCKER", "docker", "-w"), ("docker", "docker", "-w"), ("PODMAN", "podman", "-w"),
        ("UDOCKER", "udocker", "-w"),
        ("SINGULARITY", "singularity", "--pwd"), ("SINGULARITY", "apptainer", "--pwd"), ("$ENGINE", "docker", "-w"),
    ],
)  # fmt: skip
def test_a_program_runs_in_the_container(engine_name, program, option, engine, folder, monkeypatch):
    monkeypatch.setenv("ENGINE", "DOCKER")
    monkeypatch.setenv("PATH", str(folder / "programs") + ":/usr/bin:/bin")
    arguments = engine(program, option)
    (folder / "data").mkdir()
    Path("data/text").write_text("content")

    @container(engine=engine_name, image="an-image", options="--gpus all")
    @binary(binary="cat", working_dir="work")
    @task(path=FILE_IN, out={"type": FILE_OUT, "stream": "stdout"})
    def called(path, out):
        pass

    called("data/text", "out")
    assert Path("out").read_text() == "content"
    words = arguments()
    mounts = [word for word in words if word.split(":")[0] == str(folder / "data")]
    assert mounts  # what it reads is seen in the container
    assert words[words.index(option) + 1] == str(folder / "work")
    assert words[words.index("--gpus") : words.index("an-image")] == ["--gpus", "all"]


def test_docker_makes_files_as_the_user_and_is_told_the_environment(engine):
    arguments = engine("docker", "-w")

    @binary(binary="true", engine="DOCKER", image="an-image")
    @task(returns=int)
    def called():
        pass

    assert called() == 0
    words = arguments()
    assert words[:2] == ["run", "--rm"]
    assert f"{os.getuid()}:{os.getgid()}" in words
    assert "COMPSS_NUM_NODES=1" in words


def test_the_order_of_decorators_does_not_matter(engine):
    arguments = engine("docker", "-w")

    @binary(binary="true")
    @container(engine="DOCKER", image="an-image")
    @task(returns=int)
    def called():
        pass

    assert called() == 0
    assert arguments()[-1] == "true"


def test_a_container_is_inside_of_an_mpi(engine, programs):
    arguments = engine("docker", "-w")
    programs("mpirun", "import subprocess, sys; sys.exit(subprocess.run(sys.argv[3:]).returncode)")

    @container(engine="DOCKER", image="an-image")
    @mpi(runner="mpirun", binary="true", processes=2)
    @task(returns=int)
    def called():
        pass

    assert called() == 0
    assert arguments()[-1] == "true"


def test_a_function_runs_in_the_container(engine, capfd):
    engine("docker", "-w")

    @container(engine="DOCKER", image="an-image")
    @task(returns=1, seen=INOUT, path=FILE_IN)
    def called(number, seen, path, *, more):
        print("from a container")
        seen["pid"] = os.getpid()
        with open(path) as file:
            return number, more, file.read()

    Path("text").write_text("content")
    seen = {}
    assert called(1, seen, "text", more=[2]) == (1, [2], "content")
    assert seen["pid"] != os.getpid()
    assert capfd.readouterr().out == "from a container\n"


def test_what_a_function_raises_in_the_container_is_raised(engine):
    engine("docker", "-w")

    @container(engine="DOCKER", image="an-image")
    @task(returns=1)
    def called():
        return {}["key"]

    with pytest.raises(KeyError, match="key") as raised:
        called()
    assert "raised in another process" in raised.value.__notes__[0]


def test_another_python_in_the_image_is_named(programs, folder):
    programs("docker", """
        import os, sys
        source = "import sys; sys.version_info = (3, 8); sys.argv = sys.argv[1:]; exec(open(sys.argv[0]).read())"
        place = sys.argv.index("an-image")
        os.execv(sys.executable, [sys.executable, "-c", source, *sys.argv[place + 2:]])
    """)  # fmt: skip

    @container(engine="DOCKER", image="an-image")
    @task(returns=1)
    def called():
        pass

    with pytest.raises(CommandError, match=r"was packed by Python 3\.\d+ and this is 3\.8: choose an image"):
        called()


def test_an_engine_that_is_not_there_is_an_error_of_the_call(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    @container(engine="SINGULARITY", image="an-image")
    @binary(binary="ls")
    @task()
    def called():
        pass

    with pytest.raises(CommandError, match="'singularity' was not found .* install Apptainer"):
        called()


def test_an_engine_that_there_is_not_is_an_error():
    with pytest.raises(TaskDeclarationError, match="engine='LXC' is none of DOCKER, PODMAN"):

        @container(engine="LXC", image="an-image")
        @task()
        def called():
            pass

    @container(engine="$NONE", image="an-image")
    @task()
    def from_the_environment():
        pass

    with pytest.raises(CommandError, match="is not a container engine"):
        from_the_environment()
