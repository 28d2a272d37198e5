"""What holds for all tests: a failure is told when it happens, and no example has a deadline."""

import pytest
from hypothesis import settings

# How busy the machine is, is no property of the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


class Teller:
    """Tells of a failure at once, and not only at the end of the run."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_line("")  # ends the line of dots
            self._terminal.write_line(f"{report.nodeid} has failed in its {report.when}", red=True)


@pytest.hookimpl(trylast=True)  # after the terminal is there
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if terminal is not None:  # the processes of xdist have none: the one that started them tells
        config.pluginmanager.register(Teller(terminal))
