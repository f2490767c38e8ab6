"""What the command line, the ini file and a test's marker say, and which of them holds."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

import pytest

Mode = Literal["none", "once", "new_episodes", "all", "rewrite", "live", "verify"]
Unused = Literal["ignore", "warn", "fail"]

MODES: tuple[Mode, ...] = get_args(Mode)
UNUSED: tuple[Unused, ...] = get_args(Unused)
MARKER = "llm_cassette"

_MATCHING = ("match", "ignore", "normalize")
_KEYWORDS = ("name", "mode", *_MATCHING, "strict", "speed", "unused", "max_age")
_INI = {
    "llm_record": "record mode of LLM calls; none in CI whatever stands here",
    "llm_speed": "pace of replayed LLM calls: 0 is instant (default), 1 as recorded",
    "llm_block_network": "true: refuse connections beyond loopback",
    "llm_unused": "what recordings mean that a passing test did not play: ignore, warn or fail (default)",
    "llm_max_age": "days after which a recording brings a warning (default: never)",
    "llm_environment": "true: the SDKs' variables lead to llmbridge during the whole run, for every test; "
    "the default where another llm_ setting or --llm- option is given",
}


def add(parser: pytest.Parser) -> None:
    """Declare the options and their ini settings."""
    group = parser.getgroup("llmbridge", "recorded and scripted LLM calls")
    group.addoption(
        "--llm-record",
        metavar="MODE",
        choices=MODES,
        help=f"record LLM calls: {', '.join(MODES)} (default: none)",
    )
    group.addoption(
        "--llm-speed",
        metavar="X",
        type=float,
        help="pace of replayed LLM calls: 0 is instant (default), 1 as recorded",
    )
    group.addoption(
        "--llm-block-network",
        action="store_true",
        default=None,
        help="refuse connections beyond loopback, but while recording",
    )
    group.addoption(
        "--llm-unused",
        choices=UNUSED,
        help="what recordings mean that a passing test did not play (default: fail)",
    )
    group.addoption(
        "--llm-orphans",
        action="store_true",
        help="list the cassettes that no test has any more; run the whole suite with it",
    )
    for name, text in _INI.items():
        parser.addini(name, text, default=None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What holds for one test."""

    name: str | None
    mode: Mode
    matching: Mapping[str, Any]
    strict: bool
    speed: float
    unused: Unused
    max_age: timedelta | None


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for the run. `forced` is the mode that the command line gives, `usual` that of the ini file."""

    forced: Mode | None = None
    usual: Mode = "none"
    speed: float = 0.0
    block_network: bool = False
    unused: Unused = "fail"
    max_age: timedelta | None = None
    covering: bool = False
    orphans: bool = False

    @classmethod
    def read(cls, config: pytest.Config) -> "Settings":
        """The settings of a run, which may not be configured yet.

        Raises:
            pytest.UsageError: an ini setting that cannot be.
        """
        options = config.known_args_namespace
        ini: dict[str, str | None] = {name: config.getini(name) for name in _INI}
        given = (
            getattr(options, name, None)
            for name in ("llm_record", "llm_speed", "llm_block_network", "llm_unused")
        )
        said = any(value is not None for value in (*given, *ini.values()))
        usual = _one_of(MODES, ini["llm_record"] or "none", "llm_record")
        speed = options.llm_speed if options.llm_speed is not None else ini["llm_speed"] or 0
        return cls(
            forced=options.llm_record,
            usual="none" if in_ci(os.environ) else usual,
            speed=_speed(speed),
            block_network=bool(options.llm_block_network) or _true(ini["llm_block_network"]),
            unused=_one_of(UNUSED, options.llm_unused or ini["llm_unused"] or "fail", "llm_unused"),
            max_age=_age(ini["llm_max_age"]),
            orphans=bool(options.llm_orphans),
            covering=said if ini["llm_environment"] is None else _true(ini["llm_environment"]),
        )

    @property
    def may_spend(self) -> bool:
        """True where some test may reach a provider."""
        if self.forced is not None:
            return self.forced != "none"
        # Markers may ask for it.
        return not in_ci(os.environ)

    def wanted(self, marker: pytest.Mark | None) -> Wanted:
        """What holds for a test with this marker.

        The command line decides the mode, then the marker, which never goes live in CI; else the marker comes first.

        Raises:
            pytest.UsageError: the marker says what cannot be.
        """
        said = _marked(marker)
        mode = _one_of(MODES, said.get("mode", self.usual), "mode")
        if "mode" in said and in_ci(os.environ):
            mode = "none"
        return Wanted(
            name=said.get("name"),
            mode=self.forced or mode,
            matching={key: said[key] for key in _MATCHING if key in said},
            strict=bool(said.get("strict", True)),
            speed=_speed(said.get("speed", self.speed)),
            unused=_one_of(UNUSED, said.get("unused", self.unused), "unused"),
            max_age=_age(said["max_age"]) if "max_age" in said else self.max_age,
        )


def in_ci(environ: Mapping[str, str]) -> bool:
    """True where the variable CI says so."""
    return environ.get("CI", "").lower() not in ("", "0", "false")


def _marked(marker: pytest.Mark | None) -> dict[str, Any]:
    if marker is None:
        return {}
    said = {**dict(zip(("name",), marker.args, strict=False)), **marker.kwargs}
    if len(marker.args) > 1 or not said.keys() <= set(_KEYWORDS):
        raise pytest.UsageError(
            f"@pytest.mark.{MARKER} takes {', '.join(_KEYWORDS)}: {marker.args} {marker.kwargs}"
        )
    return said


def _one_of(words: tuple[Any, ...], value: Any, name: str) -> Any:
    if value not in words:
        raise pytest.UsageError(f"{name}={value!r} is none of {', '.join(words)}")
    return value


def _speed(value: Any) -> float:
    try:
        speed = float(value)
    except (TypeError, ValueError):
        speed = -1.0
    if not speed >= 0:
        raise pytest.UsageError(f"llm_speed={value!r}: give 0 for instant, 1 for the recorded pace")
    return speed


def _age(value: Any) -> timedelta | None:
    if value is None or isinstance(value, timedelta):
        return value
    try:
        age = timedelta(days=float(value))
    except (TypeError, ValueError, OverflowError):
        age = timedelta(-1)
    if age < timedelta(0):
        raise pytest.UsageError(f"llm_max_age={value!r}: give a number of days, such as 90")
    return age


def _true(value: str | None) -> bool:
    return (value or "").strip().lower() in ("1", "true", "yes", "on")
