"""The four commands, each written once for every task: pretrain, search, train and test."""

from engine.task import Task


def run_command(section: str, task: Task, argv: list[str]) -> None:
    """Run "pretrain", "search" or "found" of a task; "found" trains, or with --eval_exp_dir tests.

    The commands are imported once the command line is read, so that --help and errors in it need no torch.
    """
    from commands.resume import resolve_options

    for options in resolve_options(task, section, argv):
        loaded = task.load().with_options(options)
        if section == "pretrain":
            from commands.pretrain import pretrain

            pretrain(loaded, options)
        elif section == "search":
            from commands.search import search

            search(loaded, options)
        elif options.eval_exp_dir:
            from commands.test import test

            test(loaded, options)
        else:
            from commands.train import train_network

            train_network(loaded, options)
