"""Write the JSON Schemas of metrics.json for the site, or with --check say whether they are what would be written.

    python docs/schemas.py [--check]
"""
import argparse, json, sys
from pathlib import Path

STATIC = Path(__file__).resolve().parent/'static'


def schemas() -> dict:
    "Name of a schema file → its text."
    sys.path.insert(0, str(STATIC.parent.parent))
    from libdocs.evaluation.audited import AuditFigures
    from libdocs.evaluation.metrics import Metrics
    from libdocs.evaluation.typed import json_schema
    kinds = {'metrics': Metrics, 'audit': AuditFigures}
    made = {name: json_schema(kind, f'urn:libdocs:{name}:{kind.version}') for name, kind in kinds.items()}
    return {f'{name}.schema.json': json.dumps(schema, indent=1, ensure_ascii=False) + '\n'
            for name, schema in made.items()}


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true')
    args = parser.parse_args()
    texts = schemas()
    stale = [name for name, text in texts.items()
             if not (STATIC/name).exists() or (STATIC/name).read_text(encoding='utf-8') != text]
    if args.check and stale: sys.exit(f'not up to date: {", ".join(stale)}; run python docs/schemas.py')
    for name in stale: (STATIC/name).write_text(texts[name], encoding='utf-8')
