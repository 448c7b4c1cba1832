from __future__ import annotations

import pytest
from click.testing import CliRunner

from runmem.cli.submit import command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").touch()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "study.py").touch()
    return tmp_path


def script_of(*arguments: str) -> str:
    done = CliRunner().invoke(command, ["--dry_run", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_program_is_named_by_its_path_where_the_job_runs(folder):
    assert script_of("app.py", "-x").endswith("    -- app.py -x\n")
    elsewhere = script_of("--job_execution_dir=/", "app.py", "-x")
    assert elsewhere.endswith(f"    -- {folder}/app.py -x\n")


@pytest.mark.parametrize("options", [(), ("--job_execution_dir=/",)])
def test_a_module_is_named_as_it_is(folder, options):
    script = script_of(*options, "-m", "package.study", "-m", "--workers", "3")
    assert script.endswith("    -m \\\n    -- package.study -m --workers 3\n")
    assert "#SBATCH --job-name=package.study\n" in script
