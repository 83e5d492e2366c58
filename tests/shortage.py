"""Memory that runs out where the code meets it: an operation of torch fails as it does when there
is none left, whatever the machine has.

    short = Shortage(at(17))                      # operation number 17 fails, once
    short = Shortage(beyond(40, 5))               # of every batch of more than 40 tokens operation 5 fails
    short.during(work)()                          # `work`: short.count operations, of which short.failed failed

What is counted are operations that may need memory, forward and backward; views need none."""
import functools, itertools

ERRORS = ('CUDA', 'Python', 'torch', 'oneDNN', 'C++')  # who may report that memory ran out, each in its own words


def out_of_memory(who):
    "The error as it comes from one of `ERRORS`."
    import torch
    if who == 'CUDA': return torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 MiB.')
    if who == 'Python': return MemoryError()
    if who == 'torch':
        return RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
    return RuntimeError({'oneDNN': 'could not create a primitive', 'C++': 'std::bad_alloc'}[who])


def at(number):
    "The operation of this number fails, counted from 1."
    return lambda short: short.count == number


def beyond(tokens, step):
    "Of every batch of more tokens (padding counted) this operation fails, counted from 1, which is the embedding."
    return lambda short: short.tokens > tokens and short.step == step


class Shortage:
    "Operations fail of which `fails`, asked with this object, says so; by turns with each of the `errors`."
    def __init__(self, fails=lambda short: False, errors=ERRORS):
        self.fails, self.errors, self.numbers = fails, itertools.cycle(errors), itertools.count(1)
        # [tokens, operations]; 0 tokens: what comes before a batch
        self.count, self.failed, self.batches = 0, 0, [[0, 0]]

    @property
    def tokens(self): return self.batches[-1][0]

    @property
    def step(self): return self.batches[-1][1]

    @property
    def steps(self): return min(step for tokens, step in self.batches if tokens)  # that every batch has

    def during(self, function):
        "`function`, in which operations may fail, in whatever thread it is called."
        @functools.wraps(function)
        def run(*args, **kwargs):
            self.batches.append([0, 0])
            with _counting(self): return function(*args, **kwargs)
        return run

    def met(self, func, args):
        "One operation more; raises if it is one that fails."
        self.count = next(self.numbers)
        if func.overloadpacket._qualified_op_name == 'aten::embedding':  # a batch begins: models here have one
            self.batches.append([args[1].numel(), 0])
        self.batches[-1][1] += 1
        if not self.fails(self): return
        self.failed += 1
        error = next(self.errors)
        raise out_of_memory(error) if isinstance(error, str) else error


def _counting(short):
    from torch.utils._python_dispatch import TorchDispatchMode
    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if not func.is_view: short.met(func, args)
            return func(*args, **kwargs or {})
    return Counting()
