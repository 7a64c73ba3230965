"""Run folders -> a page to look at.

Reads run folders of joint_train_span_electra.py. Writes report.html into a run's folder or, for several runs,
one page with all of them side by side.

    python report_SE.py runs/first                              runs/first/report.html, written anew
    python report_SE.py runs/first runs/second                  comparison.html
    python report_SE.py --runs runs/first runs/second --out_file both.html
"""

from argument import ReportArgs
from span_electra.commandline import parse, run_script


def main() -> None:
    settings = parse(ReportArgs, __doc__)
    from span_electra.report.page import make_page

    print(make_page(settings.runs, settings.out_file))


if __name__ == "__main__":
    run_script(main)
