"""The four commands, each written once for every task: pretrain, search, train and test."""

from importlib import import_module

from engine.task import Task


def run_command(section: str, task: Task, argv: list[str]) -> None:
    """Run "pretrain", "search" or "found" of a task; "found" trains, or with --eval_exp_dir tests.

    The commands are imported once the command line is read, so that --help and errors in it need no torch.
    """
    from commands.resume import resolve_options

    for options in resolve_options(task, section, argv):
        of_found = "test" if options.eval_exp_dir else "train"
        name = of_found if section == "found" else section
        command = getattr(import_module(f"commands.{name}"), name)
        command(task.load().with_options(options), options)
