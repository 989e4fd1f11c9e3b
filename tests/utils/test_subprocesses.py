"""Commands in processes of their own."""

import sys

import pytest

from utils.subprocesses import ROOT, command_line, named, run


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module `hello_command` that says its arguments and a variable, and ends with the code that it is given."""
    code = (
        "import os, sys\nprint('said: ' + ' '.join(sys.argv[2:]), os.environ.get('WORD'))\nsys.exit(int(sys.argv[1]))"
    )
    (tmp_path / "hello_command.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "hello_command"


def test_output_is_passed_on_and_returned(module, capfd):
    text = run(module, 0, "a b", 3, env={"WORD": "here"})
    assert text == "said: a b 3 here\n"
    assert capfd.readouterr().out.endswith("$ python -m hello_command 0 a b 3\n" + text)


def test_a_failure_raises_with_the_commands_code(module):
    with pytest.raises(SystemExit) as stop:
        run(module, 5)
    assert stop.value.code == 5


def test_scripts_and_modules_of_the_project_run_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "usage" in run("tools.plot_genotype", "--help")
    assert command_line("main_pretrain_flira.py", 1) == [sys.executable, str(ROOT / "main_pretrain_flira.py"), "1"]
    assert (ROOT / "main_pretrain_flira.py").exists()


def test_named():
    text = "results of all: 3\nresults: a: b\nnext: results: c\n"
    assert named(text, "results") == "a: b"
    assert named(text + "results: later", "results") == "later"
    with pytest.raises(ValueError, match="expected a line 'eval_exp_dir"):
        named(text, "eval_exp_dir")
