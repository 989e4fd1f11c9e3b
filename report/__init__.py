"""report.html: one self-contained page per run, and one that compares runs."""

from datasets.data_module import DataModule
from utils.args import Options
from utils.run_folder import RunFolder


def report(run: RunFolder, args: Options, parts: DataModule) -> None:
    """Write the report of a run that has just ended, unless --no_report is given, and say where it is."""
    if run.is_writer and not args.no_report:
        from report.runs import write_report  # with matplotlib, which takes its time to import

        run.log(f"report: {write_report(run.path, parts)}")
