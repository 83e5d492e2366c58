"""Write the parameters cells of the pipeline notebooks from the options of the functions that they
call.

    python docs/pipelines.py
"""
import json
import sys

from build import NBS, ROOT

sys.path.insert(0, str(ROOT))


def cells() -> dict:
    "The source of the parameters cell of each pipeline."
    from libdocs.core.options import parameter_cell
    from libdocs.finetune.finetune import finetune
    from libdocs.phases.preparation import prepare
    from libdocs.phases.training import evaluate_published
    kept_out = ['token', 'wandb_token', 'command']  # papermill writes parameters into its output
    raw = dict(input_dir='.', input_filename='raw.jsonl', output_filename='out/corpus')
    repos = dict(dataset='./dataset', model_name='./model')
    return dict(prepare=parameter_cell(prepare, kept_out, **raw), finetune=parameter_cell(finetune, kept_out, **repos),
                evaluate=parameter_cell(evaluate_published, kept_out, **repos))


def main():
    for name, source in cells().items():
        path = NBS/'pipelines'/f'{name}.ipynb'
        nb = json.loads(path.read_text(encoding='utf-8'))
        cell = next(cell for cell in nb['cells'] if 'parameters' in cell['metadata'].get('tags', []))
        cell['source'] = source.splitlines(keepends=True)
        text = json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n'
        if text != path.read_text(encoding='utf-8'): path.write_text(text, encoding='utf-8')


if __name__ == '__main__': main()
