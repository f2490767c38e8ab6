import subprocess
import sys

import pytest

HEAVY = ("pandas", "sqlalchemy", "uvicorn", "mcp", "ipywidgets", "anywidget", "pyarrow", "yaml")
HTTP_CLIENTS = ("httpx", "httpx2", "aiohttp", "requests")


def loaded_by(code: str) -> list[str]:
    """The top-level modules of a fresh process that ran this."""
    code = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_importing_llmbridge_loads_none_of_its_dependencies() -> None:
    loaded = loaded_by("import llmbridge")

    assert [name for name in ("anyio", "asyncio", "msgspec", "yaml") if name in loaded] == []


def test_making_a_bridge_loads_nothing_heavy_and_no_http_client() -> None:
    loaded = loaded_by(
        "from llmbridge import Bridge, Live, Replay, Script; Bridge(Script('Hello'))"
    )

    assert [name for name in (*HEAVY, *HTTP_CLIENTS) if name in loaded] == []


@pytest.mark.parametrize(
    ("bridge", "loaded"),
    [
        ("Bridge()", True),
        ("Bridge(Replay(MemoryStore(), mode='new_episodes'))", True),
        ("Bridge(Replay([]))", False),
        ("Bridge(Script('Hello'))", False),
    ],
)
def test_a_server_that_may_ask_has_its_http_client_before_the_first_call(
    bridge: str, loaded: bool
) -> None:
    names = loaded_by(
        "from llmbridge import Bridge, Replay, Script\n"
        "from llmbridge.stores.memory import MemoryStore\n"
        f"with {bridge} as bridge: bridge.serve()"
    )

    assert ("aiohttp" in names) == loaded


def test_every_public_name_is_there() -> None:
    import llmbridge

    assert [name for name in llmbridge.__all__ if not hasattr(llmbridge, name)] == []


def test_only_public_names_are_found_on_demand() -> None:
    import llmbridge

    assert sorted(llmbridge._HOME) == llmbridge.__all__
    with pytest.raises(AttributeError, match="no attribute 'Birdge'"):
        llmbridge.Birdge  # noqa: B018


def test_frames_are_there_with_nothing_but_llmbridge_imported() -> None:
    assert "pandas" in loaded_by("import llmbridge; llmbridge.frames.interceptions([])")
