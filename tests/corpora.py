"""Tiny corpora and base models, the commands as subprocesses, and a way to run slow ones side by
side."""
import csv, io, json, random, socket, subprocess, sys, threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import warm

LABELS = ('invoice', 'contract', 'minutes')
TRAIN = ['--input-hf-dataset', './ds', '-o', './model', '-m', 'scratch', '--epochs', '2',
         '--device', 'cpu', '--output-classify-file', 'res/results.jsonl', '--track-output', 'wb']
MODULES = {'cleaner_finetune': 'libdocs.cleaner_finetune',
           'classifier_model': 'libdocs.classifier_model', 'libdocs-pipeline': 'libdocs.pipelines',
           'libdocs': 'libdocs.command'}


# Corpora

CARD = '''---
configs:
- config_name: default
  data_files:
  - split: train
    path: train.csv
  - split: test
    path: test.csv
  keep_default_na: false
  na_filter: false
  features:
  - name: id
    dtype: string
  - name: text
    dtype: string
  - name: label
    dtype: string
---
# Contracts
'''


def documents(n, labels=LABELS, seed=0):
    "`n` rows with a text whose words give the label away, no two alike; ids d0, d1, …"
    draw = random.Random(seed)
    def text(i, label):
        return ' '.join(draw.choices([f'{label}{k}' for k in range(12)], k=8)) + f' number {i}'
    return [{'id': f'd{i}', 'text': text(i, labels[i % len(labels)]),
             'label': labels[i % len(labels)]} for i in range(n)]


def jsonl(rows): return ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows).encode()


def csv_bytes(rows, names=None):
    out = io.StringIO(newline='')
    writer = csv.DictWriter(out, names or list(rows[0]), lineterminator='\n', quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def read_jsonl(path): return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


def put(folder, files):
    "Write `files` (path in the folder -> bytes)."
    for name, data in files.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_bytes(data)


def snapshot(folder, runs=False):
    """Path in the folder -> bytes, of every file; with `runs` also of those in run folders, which keep what is
    done for the next time."""
    def kept(p): return any(part.endswith('_run') for part in p.relative_to(folder).parts)
    return {str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(Path(folder).rglob('*')) if p.is_file() and (runs or not kept(p))}


# Base models

BERT = dict(pad_token='[PAD]', unk_token='[UNK]', cls_token='[CLS]', sep_token='[SEP]', mask_token='[MASK]')
ROBERTA = dict(cls_token='<s>', pad_token='<pad>', sep_token='</s>', unk_token='<unk>', mask_token='<mask>')
DECODER = dict(unk_token='<unk>', bos_token='<s>', eos_token='</s>')  # none to pad with


def tokenizer(texts, tokens=BERT):
    "A fast tokenizer of the words of `texts`, with the special `tokens` as the first of its vocabulary."
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast
    words = sorted({word for text in texts for word in text.split()})
    vocab = {word: i for i, word in enumerate([*tokens.values(), *words])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token=tokens['unk_token']))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if 'cls_token' in tokens:
        cls, sep = tokens['cls_token'], tokens['sep_token']
        inner.post_processor = processors.TemplateProcessing(single=f'{cls} $A {sep}', pair=f'{cls} $A {sep} $B {sep}',
                                                             special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])])
    return PreTrainedTokenizerFast(tokenizer_object=inner, **tokens)


def tiny_bert(folder, texts, labels=None, dtype=None):
    return bert(folder, texts, labels, dtype, hidden_size=32, num_hidden_layers=1,
                num_attention_heads=2, intermediate_size=32, max_position_embeddings=128)


def bert(folder, texts, labels=None, dtype=None, kind='Bert', **sizes):
    """A BERT classifier, or one of another `kind`, with random weights in `folder`; `labels` are the names of
    its outputs."""
    import transformers
    transformers.set_seed(0)
    tok = tokenizer(texts)
    names = dict(id2label=dict(enumerate(labels)),
                 label2id={name: i for i, name in enumerate(labels)}) if labels else {}
    model = getattr(transformers, f'{kind}ForSequenceClassification')(
        getattr(transformers, f'{kind}Config')(vocab_size=len(tok), **sizes, **names))
    (model.to(dtype) if dtype else model).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


DEBERTA = dict(relative_attention=True, norm_rel_ebd='layer_norm', share_att_key=True, pos_att_type=['p2c', 'c2p'],
               position_biased_input=False, type_vocab_size=0)  # of version 3, but for its sizes


def deberta(folder, texts, **sizes):
    "The same of DeBERTa-v3."
    return bert(folder, texts, kind='DebertaV2', **DEBERTA, position_buckets=256, max_relative_positions=-1, **sizes)


# Commands

_closed = socket.socket()  # kept, so that nobody else gets the port, and nobody listens at it
_closed.bind(('127.0.0.1', 0))
NOWHERE = f'http://127.0.0.1:{_closed.getsockname()[1]}'  # no server


def environment(home, **more):
    """What a command runs with: nobody's login, one thread (several run side by side), W&B off; `None` takes a
    variable away."""
    env = warm.ENVIRONMENT | {'HOME': str(home), 'HF_HOME': str(Path(home)/'hf'), 'OMP_NUM_THREADS': '1',
                              'WANDB_MODE': 'disabled', 'PYTHONIOENCODING': 'utf-8'} | more
    return {name: value for name, value in env.items() if value is not None}


def command(name, *argv, cwd, env, script=False, timeout=warm.HANG):
    """Run a command as `python -m`, in a process that is warm, or by its console script; the CompletedProcess
    with text outputs."""
    if not script:
        return warm.run(warm.MODULE, [MODULES[name], *argv], cwd, env, timeout=timeout)
    return subprocess.run([str(Path(sys.executable).parent/name), *map(str, argv)], cwd=cwd, env=env,
                          capture_output=True, text=True, encoding='utf-8', timeout=timeout, stdin=subprocess.DEVNULL)


def succeeds(done):
    "`done`, which has to have ended well, with nothing on stderr but log lines."
    assert done.returncode == 0, f'{done.args}\n{done.stdout}\n{done.stderr}'
    strange = [line for line in done.stderr.splitlines() if not line.startswith(('INFO: ', 'WARNING: '))]
    assert not strange, f'{done.args}\n' + '\n'.join(strange)
    return done


def one_error(code, said):
    "The last line of a command that failed as it should: exit code 2, one error, no traceback."
    assert code == 2, said
    assert said.count('error: ') == 1, said
    assert 'Traceback' not in said, said
    return said.splitlines()[-1]


class Jobs:
    """Results of slow functions by name, each run once: those that were started two at a time, others by
    whoever asks first."""
    def __init__(self, recipes):
        self.recipes, self.begun, self.lock, self.pool = recipes, {}, threading.Lock(), ThreadPoolExecutor(2)

    def start(self, names):
        for name in names: self.pool.submit(self.run, name)
        return self

    def run(self, name):
        with self.lock:
            mine = name not in self.begun
            future = self.begun.setdefault(name, Future())
        if mine:
            try: future.set_result(self.recipes[name]())
            except BaseException as error: future.set_exception(error)
        return future

    def __getitem__(self, name): return self.run(name).result()

    def close(self): self.pool.shutdown(cancel_futures=True)
