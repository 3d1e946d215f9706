"""What reaches the terminal: names and messages of strangers are escaped."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Cli, Result
from files import make_vectors
from invcodec_cli.terminal import printable

HOSTILE = "x\x1b]0;owned\x07\x1b[2Jy\r\nencoded: \u202eforged\x9b1m\u2028"
ESCAPED = r"x\x1b]0;owned\x07\x1b[2Jy\r\nencoded: \u202eforged\x9b1m\u2028"


def harmless(text: str) -> bool:
    """Whether a terminal only shows the text and breaks lines."""
    return all(c == "\n" or unicodedata.category(c)[0] in "LMNPS" or c == " " for c in text)


def test_printable_text_is_one_harmless_line() -> None:
    shown = printable("".join(map(chr, range(0x110000))))
    assert "\n" not in shown
    assert harmless(shown)
    for plain in ("", "a b", "Kamera 3 – Tür", "カメラ", r"C:\n"):
        assert printable(plain) == plain


def test_bytes_of_names_that_are_not_text_are_shown() -> None:
    assert printable(os.fsdecode(b"caf\xe9.inv")) == r"caf\udce9.inv"


def test_long_messages_are_cut(cli: Cli) -> None:
    result = cli("info", "x" * 100_000)
    assert result.code == 2
    assert 900 < len(result.err) < 1100
    assert result.err.endswith(" ...\n")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A file whose name and all names inside would take over a terminal."""
    rig = tuple(replace(camera, name=f"{i}{HOSTILE}") for i, camera in enumerate(make_vectors.cameras("ndc")))
    head = make_vectors.header([make_vectors.grid("ndc")], rig)
    maker = {"name": HOSTILE, "version": HOSTILE, "preset": HOSTILE}
    made = make_vectors.Maker(replace(head, encoder=maker), 0).key(0, 0).delta(1, 40)
    path = tmp_path / f"{HOSTILE}.inv"
    path.write_bytes(made.finish())
    return path


def test_no_command_writes_data_to_a_terminal(
    cli: Cli, capture: Path, encoded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def typed(*arguments: object) -> Result:
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout.isatty", lambda: True)
            return cli(*arguments)

    commands: list[tuple[object, ...]] = [
        ("encode", capture, "-"),
        ("decode", encoded, "--frame", 1, "-o", "-"),
        ("cut", encoded, "--frames", "1:2", "-o", "-"),
        ("concat", encoded, "-o", "-"),
        ("repair", encoded, "-o", "-"),
        ("mix", encoded, encoded, "-o", "-"),
        ("recolour", encoded, "--hue", 9, "-o", "-"),
        ("transcode", encoded, "--quality", 40, "-o", "-"),
        ("report", encoded, capture, "-o", "-"),
    ]
    for arguments in commands:
        result = typed(*arguments)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), arguments
        assert "refusing to write to a terminal" in result.err


def test_names_in_files_are_escaped(cli: Cli, hostile: Path, tmp_path: Path) -> None:
    damaged = tmp_path / f"damaged{HOSTILE}.inv"
    data = bytearray(hostile.read_bytes())
    data[-200] ^= 1
    damaged.write_bytes(data)
    results = [
        cli("info", hostile),
        cli("verify", hostile),
        cli("verify", damaged),
        cli("cut", hostile, "--frames", "1:2", "-o", tmp_path / f"cut{HOSTILE}.inv"),
        cli("repair", damaged, "-o", tmp_path / f"repaired{HOSTILE}.inv"),
        cli("decode", hostile, "--frame", "0", "--pose", "nowhere"),
        cli("decode", hostile, "--frame", "0", "--pose", "default", "-o", tmp_path / f"{HOSTILE}.png"),
        cli("decode", hostile, "--weights", tmp_path / f"{HOSTILE}.safetensors", "--frame", "0"),
        cli("info", tmp_path / f"missing{HOSTILE}"),
        cli("info", hostile, f"--{HOSTILE}"),
        cli("inspect", tmp_path / HOSTILE),
    ]
    for result in results:
        assert harmless(result.out + result.err)
        assert "owned" in result.out + result.err
    assert results[0].out.splitlines()[0].startswith(f"{tmp_path}/{ESCAPED}.inv: complete")
    # No line begins with what a name says after a line break.
    lines = [line for result in results for line in (result.out + result.err).splitlines()]
    assert not any(line.startswith("encoded: ") for line in lines)
    for command in ("info", "verify"):
        assert json.loads(cli(command, hostile, "--json").out)["file"].endswith(hostile.name)


def test_names_in_captures_are_escaped(cli: Cli, capture: Path, tmp_path: Path) -> None:
    folder = tmp_path / f"capture{HOSTILE}"
    shutil.copytree(capture, folder)
    calibration = folder / "transforms.json"
    text = calibration.read_text()
    calibration.write_text(text.replace("cam00", json.dumps(HOSTILE)[1:-1]))
    for result in (cli("inspect", folder), cli("inspect", folder, "--holdout", HOSTILE)):
        assert harmless(result.out + result.err)
        assert "owned" in result.out + result.err


def test_what_servers_say_is_escaped(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(4096)
                client.sendall(f"HTTP/1.1 404 {HOSTILE.splitlines()[0]}\r\nContent-Length: 0\r\n\r\n".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        result = cli("info", f"http://127.0.0.1:{listening.getsockname()[1]}/x.inv")
        thread.join()
    assert (result.code, harmless(result.err), result.err.count("\n")) == (2, True, 1)
    assert "404" in result.err
