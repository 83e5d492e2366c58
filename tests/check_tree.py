"""Fail unless the notebooks are clean, the modules exported from them and the README made from
index.ipynb: what is committed must be what the tools make."""
import hashlib
import subprocess
import sys
from pathlib import Path

root, bin = Path(__file__).parent.parent, Path(sys.executable).parent


def state() -> dict:
    files = [*root.glob('nbs/**/*.ipynb'), *root.glob('libdocs/**/*.py'), root/'README.md']
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in files if '.ipynb_checkpoints' not in p.parts}


before = state()
for command in (['nbdev-clean'], ['nbdev-export'], ['python', 'docs/pipelines.py'], ['python', 'docs/readme.py']):
    subprocess.run([str(bin/command[0]), *command[1:]], cwd=root, check=True)
after = state()
changed = sorted(p for p in before | after if before.get(p) != after.get(p))
if changed:
    sys.exit('not clean or not exported; they are now, look at the difference and commit it:\n  '
             + '\n  '.join(changed))
print('notebooks are clean, modules exported, README up to date')
