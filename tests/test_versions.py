"The lowest versions in settings.ini, as constraints for pip."
import importlib.metadata, re, subprocess, sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def test_the_lowest_versions_are_constraints_that_are_not_above_what_the_tests_run_with():
    "They are read from settings.ini."
    done = subprocess.run([sys.executable, ROOT/'.ci/floors.py'], capture_output=True, text=True, check=True)
    floors = {(floor := Requirement(line)).name: Version(next(iter(floor.specifier)).version)
              for line in done.stdout.splitlines()}
    assert {'transformers', 'torch', 'numpy', 'datasets', 'peft'} <= set(floors)
    # before, the Trainer kept no sum of the loss that a resumed training could continue
    assert floors['transformers'] >= Version('5.3')
    # before, a resumed training began its next epoch in the order of the first
    assert floors['accelerate'] >= Version('1.15')
    exact = {name.lower().replace('_', '-'): Version(version) for name, version in re.findall(
        r'^([\w.-]+)==([\w.+]+)', (ROOT/'constraints.txt').read_text(encoding='utf-8'), re.M)}
    for name, floor in floors.items():
        assert floor <= exact[name.lower().replace('_', '-')], name
        assert floor <= Version(importlib.metadata.version(name)), name
