"""Messages at the end of a run: servers on loopback get them, and their addresses are not shown."""

import os
import sys
from pathlib import Path

import pytest
from loopback import Hook, Mailbox, serve

from openhcs_omero.core.config_check import check_config
from openhcs_omero.core.notify import Channels, message_of
from openhcs_omero.core.status import PlateStatus, RunStatus
from openhcs_omero.errors import ConfigError

__all__ = ["serve"]
SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml"


def status(failed=0, problem=""):
    return RunStatus((PlateStatus("7", "day 1", 3, 3 - failed, failed=failed, problem=problem),), 0, 0, True)


def test_each_channel_gets_one_message(serve, monkeypatch, capfd):
    hook, mailbox = serve(Hook), serve(Mailbox)
    monkeypatch.setenv("OPENHCS_OMERO_NOTIFY_TEAM", f"json://user:s3cret@127.0.0.1:{hook.server_address[1]}/x")
    mail = f"mailto://127.0.0.1:{mailbox.server_address[1]}/?from=a@example.org&to=jane@example.org&mode=insecure"
    monkeypatch.setenv("OPENHCS_OMERO_NOTIFY_MAIL", mail)
    channels = Channels(["team", "mail"])
    assert not [name for name in os.environ if name.startswith("OPENHCS_OMERO_NOTIFY")]
    assert channels.send(*message_of(status(), True, Path("/r/index.html"))) == []
    [message] = hook.got
    assert message["title"] == "openhcs_omero has processed 1 plate"
    assert message["message"].startswith("1 plate: 3 of 3 wells are processed.\nPage: /r/index.html on ")
    [mail] = mailbox.got
    assert mail["Subject"] == message["title"] and mail["To"] == "jane@example.org"
    assert "3 of 3 wells are processed" in mail.get_body(("plain", "html")).get_content()
    hook.answer = 500
    [sentence] = channels.send("a", "b")
    assert "channel team" in sentence and "OPENHCS_OMERO_NOTIFY_TEAM" in sentence and "s3cret" not in sentence
    assert "s3cret" not in "".join(capfd.readouterr())


def test_what_counts_as_failed():
    title, text = message_of(status(failed=1), False, Path("p"))
    assert title == "openhcs_omero failed for 1 plate" and "2 of 3 wells are processed, 1 failed" in text
    title, text = message_of(status(problem="it is gone"), True, Path("p"))
    assert title == "openhcs_omero failed for 1 plate" and "Plate 7: it is gone" in text


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (None, "OPENHCS_OMERO_NOTIFY_TEAM is not set"),
        ("nonsense s3cret", "is no address that apprise knows"),
        ("unheard-of://s3cret", "is no address that apprise knows"),
    ],
)
def test_an_address_that_is_missing_or_wrong(address, says, monkeypatch, capfd):
    if address is not None:
        monkeypatch.setenv("OPENHCS_OMERO_NOTIFY_TEAM", address)
    else:
        monkeypatch.setattr("openhcs_omero.password._kept", {})
    with pytest.raises(ConfigError, match=says) as error:
        Channels(["team"])
    assert "s3cret" not in str(error.value) + "".join(capfd.readouterr())


def test_apprise_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert Channels([]).send("a", "b") == []
    with pytest.raises(ConfigError, match=r"pip install \"openhcs-omero\[notify\]\""):
        Channels(["team"])


@pytest.mark.parametrize("given", [["slack://s3cret"], "slack://s3cret", [{"slack": "s3cret"}], ["s3cret" * 20]])
def test_an_address_in_the_configuration_is_not_shown(given):
    with pytest.raises(ConfigError, match="an address belongs into the environment") as error:
        check_config({"plates": [1], "steps": [{"call": "m:f"}], "notify": given}, SCHEMA)
    assert "s3cret" not in str(error.value)
    check_config({"plates": [1], "steps": [{"call": "m:f"}], "notify": ["slack", "mail_2"]}, SCHEMA)
