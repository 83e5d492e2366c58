"What several programs of bench/ need to train and to judge: imported, not run."
import logging
import os
import tempfile


def answered(train, test, seed: int, threads: int = 1, **options) -> tuple:
    """(`Outcomes` of `test`, the published classifier) of `scratch`, trained on `train` with `options` of
    `finetune`; no W&B, no log lines."""
    os.environ |= dict(WANDB_MODE='disabled', TOKENIZERS_PARALLELISM='false')
    import torch
    from libdocs.classifiers.deberta import DebertaZeroShot
    from libdocs.finetune.data import Task
    from libdocs.finetune.finetune import finetune
    from libdocs.evaluation.outcomes import outcomes, probability_facts
    from libdocs.core.labels import LabelSchema
    torch.set_num_threads(threads)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        task = Task('bench', train, test, LabelSchema.from_labels(train['label']))
        finetune(task, f'{folder}/model', base_model='scratch', seed=seed, device='cpu',
                 track_output=f'{folder}/wandb', **options)
        classifier = DebertaZeroShot(f'{folder}/model', device='cpu')
        answers = classifier.classify(list(test['text']))
    names = [[name for name, _ in answer] for answer in answers]
    places = [known.index(label) if label in known else -1 for known, label in zip(names, test['label'])]
    chances = probability_facts([[score for _, score in answer] for answer in answers], places)
    return outcomes(list(test['label']), [known[:3] for known in names], chances), classifier


def tuned(*args, **options) -> tuple:
    "(figures, classifier) as `answered` gives them."
    from libdocs.evaluation.metrics import evaluate
    outcomes, classifier = answered(*args, **options)
    return evaluate(outcomes), classifier


def linear_answered(train, test, seed: int = 42):
    "`Outcomes` of TF-IDF + linear on `test`."
    from libdocs.evaluation.baselines import linear_predictions
    from libdocs.evaluation.outcomes import outcomes
    return outcomes(test['label'], linear_predictions(train, test['text'], seed))


def linear_figures(*args):
    "The figures of TF-IDF + linear."
    from libdocs.evaluation.metrics import evaluate
    return evaluate(linear_answered(*args))


def spread(values) -> str:
    "Mean and standard deviation as a cell of a table."
    return '' if values.isna().all() else f'{values.mean():.4f} ± {values.std():.4f}'
