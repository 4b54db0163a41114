"""Every subcommand, asked for help, with an unknown option and with paths that are wrong.

Pins: a traceback shown to a user; a path that is not there answered by an error about something else, by several lines
or by a line that does not name it; a result that cannot be written noticed only after the work; an empty path that is
taken for the working directory; somebody's directory that is deleted because it was named as --out.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from robosteer_bringup import cli
from robosteer_bringup.demo.command import MARK, make_workspace

SOURCE = Path(__file__).parents[2]
NANO = str(SOURCE / "robosteer_training/checkpoints/nano")
RIG = str(SOURCE / "robosteer_bringup/config/rigs/sim_panda.yaml")
HIDDEN = ("evaluate compare", "evaluate guide")
"""Commands inside commands that the usage line does not list."""
INPUTS = """
atlas build --base {} --out new
atlas search --atlas {} --words x
atlas show --atlas {} --vectors 0.0
bag info {}
bag recover {}
bag label {} success
bag cut {} --out new
bag split {} --out new --every-s 1
bag merge {} {} --out new
bag relabel {} --out new --instruction x
checkpoint inspect {}
checkpoint verify {}
checkpoint merge {} new
checkpoint diff {} NANO
checkpoint diff NANO {}
convert --bag {} --out new
dataset export {} --out new
dataset import {} --out new
dataset verify {}
dataset report {}
deploy sim:=true checkpoint:={}
deploy sim:=true checkpoint:=NANO rig:={}
deploy sim:=true checkpoint:=NANO preset_dir:={}
doctor {} --no-live
evaluate --checkpoint {}
evaluate --checkpoint NANO --rig {}
evaluate compare {} other
evaluate guide plan --out new --policies a b --task x --rig {}
evaluate guide run --plan {}
evaluate guide report --plan {}
finetune --dataset {} --base NANO --out new
finetune --dataset . --base {} --out new
finetune --dataset . --base NANO --out new --heads {}
heads cache --dataset {} --base NANO --out new
heads select --cache {} --out new
heads cv --cache {}
heads stability --cache {}
heads overlap --selections {} other
heads classify --cache {}
heads bootstrap --cache {} --selection none
heads null --cache {} --selection none
heads redundancy --cache {} --selection none
heads plot --selections {} --out new
heads attention --dataset {} --base NANO --selection none --out new
heads gallery --cache {} --selection none --dataset none --out new
heads report --cache {} --selection none --out new
launch {}
paper fig6 --base {} --rig RIG --work work --out new
paper fig6 --base NANO --rig {} --work work --out new
pretrain-nano --rig {} --work work --out new
record sim:=true rig:={}
replay {}
rig check {}
rig check RIG --bag {}
rig show {}
serve {}
serve NANO --host 0.0.0.0 --port 0 --token-file {}
simulate rig:={}
steer --base {} --bag . --out new
steer --base NANO --bag {} --out new
steer --base NANO --dataset {} --out new
teleop replay {}
""".strip().splitlines()
NO_INPUT = {
    *("demo", "run", "service call", "sim-preview", "topic echo", "topic pub"),
    *("teleop cert show", "teleop cert renew", "teleop doctor"),
}
"""Commands that read no path of the user's."""
OUTPUTS = """
atlas build --base NANO --out {}
demo --out {}
deploy sim:=true checkpoint:=NANO record:=true out:={}
evaluate --checkpoint NANO --rig RIG --films {}
evaluate guide plan --out {} --policies a b --task x --rig RIG
heads bootstrap --cache none --selection none --out {}
heads cache --dataset none --base NANO --out {}
paper table7 --base NANO --rig RIG --work work --out {}
record sim:=true out:={}
teleop cert renew --directory {}
""".strip().splitlines()


def leaves(name: str, capture: pytest.CaptureFixture[str]) -> Iterator[str]:
    """A command's own subcommands, down to those that have none."""
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(cli.main([*name.split(), "--help"]))
    usage = capture.readouterr().out
    assert (ended.value.code, usage.split()[:3]) == (0, ["usage:", "robosteer", name.split()[0]]), name
    inside = re.match(r"usage: robosteer [a-z -]+ \[-h\] \{([a-z,-]+)\}", usage)
    if inside is None:
        yield name
        return
    for word in inside[1].split(","):
        yield from leaves(f"{name} {word}", capture)


def call(line: str, capture: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and complaint of a command line; NANO and RIG stand for what comes with the sources."""
    words = [{"NANO": NANO, "RIG": RIG}.get(w, w.replace(":=NANO", f":={NANO}")) for w in line.split()]
    try:
        code = cli.main(words)
    except SystemExit as ended:
        code = ended.code
    return code, capture.readouterr().err


def test_every_command_explains_itself_refuses_unknown_options_and_stands_below(capsys) -> None:
    commands = [leaf for name in (*cli.discover(), *HIDDEN) for leaf in leaves(name, capsys)]
    for command in commands:
        code, complaint = call(f"{command} --no-such-option", capsys)
        assert code == 2, f"{command}: {complaint}"
        assert any(words in complaint for words in ("no-such-option", "usage:", "Missing argument")), complaint
    listed = {command for command in commands for line in INPUTS if line.startswith(f"{command} ")}
    assert set(commands) - listed == NO_INPUT


@pytest.mark.parametrize("line", INPUTS)
def test_a_wrong_path_is_one_line_that_names_it(line: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"\0\xff something else\n")
    for wrong in ("missing", "empty", "file"):
        if "--token-file" in line and wrong != "missing":
            continue
        code, complaint = call(line.replace("{}", wrong), capsys)
        assert (code, complaint.count("\n")) == (1, 1), complaint
        assert complaint.startswith(f"robosteer {line.split()[0]}: "), complaint
        assert wrong in complaint, complaint
        assert "[Errno" not in complaint, complaint
        assert not {"new", "work"} & {path.name for path in tmp_path.iterdir()}, "something was begun"


@pytest.mark.parametrize("line", [line for line in INPUTS if ":=" not in line and not line.startswith("launch")])
def test_an_empty_path_is_not_the_working_directory(line: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = [{"NANO": NANO, "RIG": RIG, "{}": ""}.get(word, word) for word in line.split()]
    assert cli.main(words) == 1
    assert "found '', expected a path" in capsys.readouterr().err


@pytest.mark.parametrize("line", OUTPUTS)
def test_a_place_that_cannot_be_written_is_one_line_that_names_it(line: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    code, complaint = call(line.replace("{}", "file/inside"), capsys)
    assert (code, complaint.count("\n")) == (1, 1), complaint
    assert f"{tmp_path}/file" in complaint or "file/inside" in complaint, complaint
    assert (tmp_path / "file").read_text() == "mine"


def test_a_demo_deletes_the_directories_of_demos_only(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "mine/logs").mkdir(parents=True)
    code, complaint = call(f"demo --out {tmp_path}/mine", capsys)
    assert (code, (tmp_path / "mine/logs").is_dir()) == (1, True)
    assert "found what no demo made" in complaint
    make_workspace(tmp_path / "demo", quick=True, resume=False)
    assert (tmp_path / "demo" / MARK).is_file()
