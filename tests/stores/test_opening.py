import pytest

from llmbridge import frames
from llmbridge.cli.files import files_of
from llmbridge.errors import CassetteError, ConfigurationError
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.opening import existing_store, open_store


@pytest.mark.parametrize(
    "read",
    [
        Cassette.load,
        open_store,
        existing_store,
        lambda url: frames.interceptions([url]),
        lambda url: files_of([url]),
    ],
    ids=["cassette", "store", "existing", "frames", "command line"],
)
@pytest.mark.parametrize("url", ["x://u:se/cr:et@h/d", "x://h/d?user=u&password=se/cr:et"])
def test_a_url_that_cannot_be_read_is_told_without_its_password(read, url):
    with pytest.raises((CassetteError, ConfigurationError)) as told:
        read(url)

    assert "cr:et" not in str(told.value)
    assert "***" in str(told.value)
