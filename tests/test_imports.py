import subprocess
import sys

HEAVY = ("pandas", "sqlalchemy", "uvicorn", "mcp", "ipywidgets", "anywidget", "pyarrow", "yaml")
HTTP_CLIENTS = ("httpx", "httpx2", "aiohttp", "requests")


def test_importing_llmbridge_loads_nothing_heavy_and_no_http_client() -> None:
    code = "import llmbridge, sys; print(*{name.partition('.')[0] for name in sys.modules})"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert [name for name in (*HEAVY, *HTTP_CLIENTS) if name in loaded] == []


def test_every_public_name_is_there() -> None:
    import llmbridge

    assert [name for name in llmbridge.__all__ if not hasattr(llmbridge, name)] == []
