"""report.html: one self-contained page per run, and one that compares runs."""

from datasets.data_module import DataModule
from utils.args import Options
from utils.run_folder import RunFolder


def report(run: RunFolder, args: Options, data: DataModule) -> None:
    """Write the report of a run that has just ended and log its path; --no_report turns this off."""
    if run.is_writer and not args.no_report:
        from report.run_page import write_report  # imports matplotlib, which is slow

        run.log(f"report: {write_report(run.path, data)}")
