"""From a dirty, skewed corpus of labelled documents to a published text classifier, and the truth about how good it is."""
import os
from importlib import import_module

__version__ = "0.1.0"

# Threads of torch that wait for each other spin for milliseconds unless libgomp is told otherwise before it is loaded.
# Beside another busy program a training is two to ten times as slow with that; on a quiet machine it brings nothing.
os.environ.setdefault('GOMP_SPINCOUNT', '1000')

_MODULES = {  # what most users need, imported when it is first asked for: `import libdocs` takes no time
    'prepare': 'phases.preparation', 'train_and_evaluate': 'phases.training', 'evaluate_model': 'phases.training',
    'evaluate_published': 'phases.training', 'classify_files': 'classifiers.files',
    'export_model': 'classifiers.onnx',
    'compare_runs': 'phases.comparison', 'audit_predictions': 'phases.audit',
    'DebertaZeroShot': 'classifiers.deberta', 'read_records': 'core.records',
    'clean': 'utils.data_cleaner.clean_data_tfidf', 'label_issues': 'utils.data_cleaner.label_issues',
    'leakage': 'utils.data_cleaner.leakage', 'run_pipeline': 'pipelines'}
__all__ = ['__version__', *_MODULES]


def __getattr__(name: str):
    if name not in _MODULES: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_MODULES[name]}', __name__), name)


def __dir__() -> list: return sorted({*globals(), *_MODULES})
