"An option is defined once: one that is added on the fly is there everywhere, and nothing has options of its own."
import importlib
import inspect
import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from libdocs.core import settings
from libdocs.core.options import add_options, flat, option, option_help, Options, parameter_cell
from libdocs.core.settings import PreparationOptions, TrainingOptions
from libdocs.evaluation.record import CorpusRecord, TrainingRecord
from libdocs.finetune.finetune import finetune
from libdocs.phases.preparation import prepare
from libdocs.phases.training import evaluate_published

ROOT = Path(__file__).parents[1]
TOKENS = {'token', 'wandb_token'}
CLASSES = [kind for kind in vars(settings).values() if inspect.isclass(kind) and issubclass(kind, Options)]
KINDS = [kind for kind in CLASSES if kind is not Options]
DEFINED = {field.name for kind in KINDS for field in fields(kind)}


# One field, added to each phase

@dataclass(frozen=True, kw_only=True)
class WithSpelling(PreparationOptions):
    spelling: str = option('as is', 'what is done to spelling', choices=['as is', 'mended'], stages='clean')


@dataclass(frozen=True, kw_only=True)
class WithPatience(TrainingOptions):
    patience: str = option('usual', 'how long to wait for a better epoch', choices=['usual', 'long'], stages='train')


@flat
def phase_1(preparation: WithSpelling, token: str = None):
    "Phase 1 with another option."
    return preparation


@flat
def phase_2(dataset: str, training: WithPatience, token: str = None):
    "Phase 2 with another option."
    return training


NEEDED = dict(input_dir='data', input_filename='raw.jsonl', output_filename='out/letters')
ADDED = {
    'preparation': (WithSpelling, phase_1, NEEDED, 'spelling', 'as is', 'mended', 'clean'),
    'training': (WithPatience, phase_2, dict(dataset='./ds'), 'patience', 'usual', 'long', 'train'),
}


@pytest.fixture(params=ADDED)
def added(request):
    "(options, function with them, what must be given, name, default, another value, stage) of an added option."
    return ADDED[request.param]


def parser_of(kind):
    "A command with these options."
    from libdocs.core.console import Parser
    parser = Parser(prog='command', description='A command.')
    add_options(parser, kind)
    return parser


def given(needed, **more):
    "A command line with what must be given, and more."
    return [word for name, value in {**needed, **more}.items() for word in (f'--{name.replace("_", "-")}', value)]


def test_parser_reads_an_added_option(added):
    "By its name, with its default, and only its choices."
    kind, _, needed, name, default, other, _ = added
    needed = {k: v for k, v in needed.items() if k in kind.__dataclass_fields__}
    parser = parser_of(kind)
    assert getattr(kind.from_args(parser.parse_args(given(needed))), name) == default
    assert getattr(kind.from_args(parser.parse_args(given(needed, **{name: other}))), name) == other
    with pytest.raises(SystemExit):
        parser.parse_args(given(needed, **{name: 'neither'}))


def test_help_shows_an_added_option(added):
    "With its meaning and its default."
    kind, _, _, name, default, _, _ = added
    shown = ' '.join(parser_of(kind).format_help().split())
    assert f'--{name}' in shown
    assert f'{kind.__dataclass_fields__[name].metadata["help"]} (default: {default})' in shown


def test_function_has_an_added_option(added):
    "In its signature and its docstring; it takes the option and checks it."
    kind, function, needed, name, default, other, _ = added
    assert inspect.signature(function).parameters[name].default == default
    assert f'  {name}: {option_help(function)[name]}' in function.__doc__
    assert kind.__dataclass_fields__[name].metadata['help'] in function.__doc__
    assert getattr(function(**needed), name) == default
    assert getattr(function(**needed, **{name: other}), name) == other


def test_pipeline_has_an_added_option(added):
    "The cell of parameters has a line with its type, default and meaning."
    kind, function, needed, name, default, _, _ = added
    lines = parameter_cell(function, ['token'], **needed).splitlines()
    assert f'{name}: str = {default!r}  # {option_help(function)[name]}' in lines


def test_stage_depends_on_an_added_option(added):
    "The stage that it names is done again when it changes; no other is."
    kind, function, needed, name, default, other, stage = added
    before, after = function(**needed), function(**needed, **{name: other})
    assert before.of(stage)[name] == default
    assert after.of(stage)[name] == other
    stages = {each for field in fields(kind) for each in field.metadata['stages']}
    assert [each for each in sorted(stages) if before.of(each) != after.of(each)] == [stage]


def test_records_state_an_added_option(added):
    "At its default too."
    _, function, needed, name, default, other, _ = added
    assert function(**needed).recorded()[name] == default
    assert function(**needed, **{name: other}).recorded()[name] == other


def test_card_of_a_dataset_shows_an_added_option():
    "In its table of options, with its value."
    from libdocs.report.cards import dataset_card
    options = phase_1(**NEEDED, spelling='mended').recorded()
    card = dataset_card(CorpusRecord(repo='./ds', options=options, columns=['id', 'text', 'label']))
    assert '| spelling | mended |' in [' '.join(line.split()) for line in card.replace('`', '').splitlines()]


def test_card_of_a_model_shows_an_added_option():
    "In its table of hyperparameters, with its value."
    from libdocs.report.cards import model_card
    options = phase_2(dataset='./ds', patience='long').recorded()
    card = model_card(TrainingRecord(repo='./model', hyperparameters=options))
    assert '| patience | long |' in [' '.join(line.split()) for line in card.replace('`', '').splitlines()]


# Nothing has options of its own

PIPELINES = {'prepare': prepare, 'finetune': finetune, 'evaluate': evaluate_published}


@pytest.mark.parametrize('name', PIPELINES)
def test_pipelines_have_every_parameter(name):
    "Of the function that they call, but for tokens and the command line, which is none of theirs."
    from libdocs.pipelines import pipeline_parameters
    wanted = set(inspect.signature(PIPELINES[name]).parameters) - TOKENS - {'command'}
    assert set(pipeline_parameters(name)) == wanted


def test_parameters_cells_are_up_to_date(monkeypatch):
    "They are what docs/pipelines.py writes."
    monkeypatch.syspath_prepend(ROOT/'docs')
    monkeypatch.delitem(sys.modules, 'pipelines', raising=False)
    for name, source in importlib.import_module('pipelines').cells().items():
        notebook = json.loads((ROOT/'nbs'/'pipelines'/f'{name}.ipynb').read_text(encoding='utf-8'))
        cells = [''.join(cell['source'])
                 for cell in notebook['cells'] if 'parameters' in cell['metadata'].get('tags', [])]
        assert cells == [source], name


@pytest.mark.parametrize('name', ['cleaner_finetune', 'classifier_model', 'compare', 'audit', 'report_again'])
def test_commands_have_no_options_of_their_own(name):
    "But for what is about the command itself, and tokens."
    own = {'help', 'log_level', 'train', 'examples', 'run', 'runs', 'hf_access_token', 'wandb_access_token'}
    parser = importlib.import_module(f'libdocs.{name}').parser()
    assert {action.dest for action in parser._actions} - own <= DEFINED


@pytest.mark.parametrize('name', ['cleaner_finetune', 'classifier_model', 'compare', 'audit', 'report_again'])
def test_commands_take_their_help_from_the_options(name):
    "Whatever a command says about an option, the field says."
    parser = importlib.import_module(f'libdocs.{name}').parser()
    meanings = {field.metadata['help'] for kind in KINDS for field in fields(kind)}
    meanings |= {field.metadata['flag_help'] for kind in KINDS for field in fields(kind)} - {''}
    for action in parser._actions:
        if action.dest in DEFINED:
            assert any(action.help.startswith(meaning) for meaning in meanings), action.dest


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.__name__)
def test_every_option_says_what_it_means(kind):
    "In words that do not end with a full stop: they stand in tables and in the help of commands."
    for field in fields(kind):
        assert field.metadata['help'], field.name
        assert not field.metadata['help'].endswith('.'), field.name
