import pytest

from harness.errors import InfrastructureError
from harness.image.sources import apt_sources

DEB822 = """\
# a comment
Types: deb
URIs: http://one.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://vendor.example/stuff
Suites: bookworm
Components: stable

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
"""
LIST = """\
# deb http://comment.example/debian bookworm main
deb [arch=amd64 signed-by=/x.gpg] http://two.example/debian bookworm-security main contrib
deb [ trusted=yes ] http://three.example/debian bookworm main  # why
deb http://other.example/debian trixie main
deb-src http://source.example/debian bookworm main
"""


def test_only_debians_stanzas_of_the_release_are_kept(tmp_path):
    """Only Debian's stanzas of the release are kept."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "sources.list").write_text(LIST)
    found = apt_sources("bookworm", tmp_path)
    assert "one.example" in found["host.sources"]
    assert found["host.sources"].count("URIs:") == 1
    assert "two.example" in found["host.list"]
    assert "three.example" in found["host.list"]
    assert len(found["host.list"].splitlines()) == 2


def test_disabled_files_do_not_count(tmp_path):
    """Disabled files do not count."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources.disabled").write_text(DEB822)
    with pytest.raises(InfrastructureError, match="no apt source offers Debian bookworm main"):
        apt_sources("bookworm", tmp_path)
