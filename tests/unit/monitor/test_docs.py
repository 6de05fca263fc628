"""The page about the monitor says what the code does."""

import re

import yaml

from maxgate.monitor.alerts import load_rules
from maxgate.monitor.catalogue import CATALOGUE
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "monitoring.md").read_text()


def test_the_table_of_numbers_is_the_catalogue() -> None:
    table = re.search(r"<!-- numbers:.*?-->\n(.*?)\n<!-- /numbers -->", PAGE, re.DOTALL)
    assert table is not None
    rows = [line.split(" | ") for line in table[1].splitlines()[2:]]
    cells = [[cell.strip("| ") for cell in row] for row in rows]
    wanted = [[f"`{name}`", q.unit, q.text] for name, q in CATALOGUE.items()]
    assert cells == wanted


def test_the_example_of_rules_works(tmp_path) -> None:
    example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    path = tmp_path / "rules.yaml"
    path.write_text(example[1])
    assert len(load_rules(path)) == len(yaml.safe_load(example[1])["rules"]) == 2
