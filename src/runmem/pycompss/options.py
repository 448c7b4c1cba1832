"""Options of PyCOMPSs's functions that start a runtime, as settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from runmem.clusters.compss_xml import settings_from_xml
from runmem.settings import LOG_LEVELS, Settings, option_name
from runmem.standard_error import say

__all__ = ["is_option", "settings_of"]

_RENAMED = {
    "wcl": "wall_clock_limit",
    "nested_enabled": "nested",
    "log_dir": "run_folder",
    "base_log_dir": "run_folder",
    "baseLogDir": "run_folder",
}
_OWN = {"debug", "log_level", "summary", "project_xml", "resources_xml"}
_UNUSED_TEXT = """
    appName cache_profiler checkpoint_folder checkpoint_params checkpoint_policy comm conn cpu_affinity
    cpuAffinity data_provenance ear external_adaptation extrae_cfg extrae_cfg_python extrae_final_directory extraeCfg
    fpga_affinity fpga_reprogram gpu_affinity gpuAffinity io_executors jvm_workers jvmWorkers master_name masterName
    master_port masterPort master_working_dir monitor mpi_worker o_c profile_input profileInput
    profile_output profileOutput propagate_virtual_environment reuse_on_block scheduler_config shutdown_in_node_failure
    specific_log_dir specificLogDir storage_conf storageConf storage_impl streaming_backend streaming_master_name
    streaming_master_port task_count taskCount task_execution taskExecution trace trace_label tracing_task_dependencies
    uuid verbose worker_cache"""
_UNUSED = frozenset(_UNUSED_TEXT.split())
_SETTINGS = frozenset(option_name(setting) for setting in fields(Settings))


def is_option(name: str) -> bool:
    """Return True if this is an option of PyCOMPSs, used or not, or a setting of runmem."""
    return name in _RENAMED or name in _OWN or name in _UNUSED or name in _SETTINGS


def settings_of(options: Mapping[str, object], where: str) -> dict[str, Any]:
    """Return the settings for these options; print the options without effect in one line.

    Parameters
    ----------
    where : str
        Name of the function, for the line.

    Raises
    ------
    SettingError
        If an XML file cannot be used.
    """
    given = {name: value for name, value in options.items() if value not in (None, "", False, 0)}
    project, resources = (
        Path(str(given[name])) if name in given else None for name in ("project_xml", "resources_xml")
    )
    settings: dict[str, Any] = dict(settings_from_xml(project, resources))
    level = str(given.get("log_level", ""))
    level = "debug" if "debug" in given else {"api": "info", "trace": "debug"}.get(level, level)
    if level in LOG_LEVELS:
        settings["log_level"] = level
    settings.update({_RENAMED[name]: value for name, value in given.items() if name in _RENAMED})
    is_class_name = "scheduler" in given and ":" not in str(given["scheduler"])
    own = {name: value for name, value in given.items() if name in _SETTINGS and name not in _OWN}
    settings.update({name: value for name, value in own.items() if not (name == "scheduler" and is_class_name)})
    ignored = [name for name in given if name not in _RENAMED and name not in _OWN and name not in settings]
    if ignored:
        say(f"runmem: note: {where}: without effect here: {', '.join(ignored)}")
    return settings
