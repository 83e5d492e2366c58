"""Addresses that are limited, as by `ulimit -v`: how much is little depends on the machine, so it
is found by bisection first. Part of `make soak`; what must always hold is in test_memory.py."""
import shutil

import pytest
import warm
from corpora import environment
from test_faults import HEAVY, NAMED, re, same_answers, texts_and_base, undone, well

# A program of its own: the module argv[4] as a program, in parts of argv[3] tokens, which may have argv[1] bytes more
# than it has when it begins to train, or to evaluate
LIMITED = '''
import os, resource, sys
def limit(size): resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
def limited(function, more):
    def run(*args, **kwargs):
        limit(int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE") + more)
        try: return function(*args, **kwargs)
        finally: limit(1 << 46)
    return run
limit(1 << 46)
more, when, tokens, sys.argv = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
if when == "train":
    import libdocs.finetune.job as ours, transformers
    def sized(*args, make=ours.ClassifierTrainer, **options): return make(*args, **options | dict(tokens=tokens))
    ours.ClassifierTrainer, transformers.Trainer.train = sized, limited(transformers.Trainer.train, more)
else:
    import libdocs.classifiers.forward as forward
    forward.Forward.batch_logits = limited(forward.Forward.batch_logits, more)
    forward.batch_tokens = lambda model, device: tokens
''' + warm.MODULE
WHOLE, ALONE = 1 << 14, 1  # tokens of a part, so that all texts are in one, or each is alone
MOST = 1 << 40  # more bytes than there are


def with_memory(work, when, more, tokens=WHOLE):
    argv = ['-c', more, when, tokens, 'libdocs.classifier_model', *HEAVY]
    return warm.run(LIMITED, argv, work, environment(work.parent/'home'))


@pytest.fixture(scope='module')
def heavy(tmp_path_factory):
    "A folder with long texts and a base model that needs much memory to learn them at once, used without a limit."
    work = tmp_path_factory.mktemp('heavy')/'work'
    texts_and_base(work, 45, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024,
                   max_position_embeddings=512)
    well(with_memory(work, 'train', MOST))
    return work


def least(heavy, folder, when, tokens, step=1 << 22):
    "The fewest bytes, to `step`, with which the job never runs out of memory when its parts have so many tokens."
    def enough(more):
        done = with_memory(undone(heavy, folder/'work', when), when, more, tokens)
        shutil.rmtree(folder/'work')
        return done.returncode == 0 and 'ran out' not in done.stderr
    low, high = 0, 1 << 26
    while not enough(high): low, high = high, 2 * high
    while high - low > step:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@pytest.mark.parametrize('when', ['train', 'evaluate'])
def test_limited_addresses(heavy, tmp_path, when, record_property):
    """With more than one text needs and less than all do: the same answers, in smaller batches.

    With less still: those, or the text that does not fit is named."""
    one, all_of_them = (least(heavy, tmp_path, when, tokens) for tokens in (ALONE, WHOLE))
    record_property('bytes for one text', one), record_property('bytes for all', all_of_them)
    print(f'{when}: {one >> 20} MB for one text, {all_of_them >> 20} MB for all')
    assert one < all_of_them
    for share in (.25, .5, .75):
        work = undone(heavy, tmp_path/f'work-{share}', when)
        done = well(with_memory(work, when, int(one + share * (all_of_them - one))))
        assert 'the memory of cpu ran out' in done.stderr and same_answers(heavy, work), done.stderr
    for more in (0, one // 2):
        work = undone(heavy, tmp_path/f'work-{more}', when)
        done = with_memory(work, when, more)
        if done.returncode == 0: assert same_answers(heavy, work)
        else: assert done.returncode == 2 and re.search(NAMED, done.stderr), done.stderr
