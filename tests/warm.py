"""Processes that begin warm: one process imports what every job imports, which takes seconds, and
forks for each job. A job has a process of its own, with its own folder, environment, limits and
exit code, as if it had been started. There are two such first processes: one has imported
everything, so that what the Hub's client and transformers read from the environment when they are
imported (where the Hub is, for one) is settled; the other leaves these, not what they stand on, for
the job to import: one whose environment says something to them, or that is given `hub=True`.

    done = run(PROGRAM, argv, cwd=folder, env={...})  # as subprocess.run(…, capture_output=True, text=True)
    job = Job(PROGRAM, argv, cwd=folder, env={...})  # as subprocess.Popen(…, stderr=PIPE, text=True);
                                                     # it has pid, send_signal, stderr and wait
"""
import atexit, json, os, re, signal, socket, subprocess, sys, tempfile, threading
from pathlib import Path

ENVIRONMENT = dict(os.environ)  # before any test; what tests change in their own process is nothing to a command
HANG = 1800  # seconds after which what does not end is taken to hang; no test measures time
MODULE = 'import runpy, sys; runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)'


# Before MODULE: signal argv[1] is sent in the eighth step of training, and nothing more is done until it
# has come (`to`: an expression for the process that it is sent to)
def asked(to='os.getpid()'): return f"""
import os, signal, sys, time
from libdocs.finetune.trainer import ClassifierTrainer
sent, usual, steps = int(sys.argv.pop(1)), ClassifierTrainer.step_in_parts, []
def step(self, *args):
    steps.append(args)
    if len(steps) == 8 and self.args.process_index == 0:
        waiting = signal.getsignal(sent)
        os.kill({to}, sent)
        while sent != signal.SIGSTOP and signal.getsignal(sent) == waiting: time.sleep(.01)
    return usual(self, *args)
ClassifierTrainer.step_in_parts = step
"""


class Job:
    "A program (source text, which finds argv in sys.argv) in a process of its own."
    def __init__(self, program, argv, cwd, env, file_size=None, hub=None):
        self.args, self.folder = argv, tempfile.TemporaryDirectory()
        out, err = (str(Path(self.folder.name)/name) for name in ('out', 'err'))
        os.mkfifo(err)
        self.link = socket.socket(socket.AF_UNIX)
        self.link.connect(_server(is_told(env) if hub is None else hub))
        self.link.sendall(json.dumps(dict(program=program, argv=[str(word) for word in argv], cwd=str(cwd),
                                          env=env, out=out, err=err, file_size=file_size)).encode() + b'\n')
        self.answers, self.out = self.link.makefile(), Path(out)
        self.stderr = open(err, encoding='utf-8', errors='backslashreplace')
        self.pid = int(self.answers.readline())

    def send_signal(self, sent): os.kill(self.pid, sent)

    def wait(self):
        "(exit code, stdout, what is left of stderr)."
        left = self.stderr.read()
        self.returncode = int(self.answers.readline())
        self.stderr.close(), self.answers.close(), self.link.close()
        stdout = self.out.read_text(encoding='utf-8', errors='backslashreplace')
        self.folder.cleanup()
        return self.returncode, stdout, left


def is_told(env):
    "Whether an environment tells the Hub's client or transformers anything but where their cache is."
    return any(re.match('HF_(?!HOME)|HUGGING|TRANSFORMERS_', name) and value != ENVIRONMENT.get(name)
               for name, value in env.items())


def run(program, argv, cwd, env, file_size=None, hub=None, timeout=HANG):
    job = Job(program, argv, cwd, env, file_size, hub)
    late = threading.Timer(timeout, lambda: job.send_signal(signal.SIGKILL))
    late.start()
    try: code, stdout, stderr = job.wait()
    finally: late.cancel()
    return subprocess.CompletedProcess(argv, code, stdout, stderr)


_servers, _lock = {}, threading.Lock()


def _server(hub):
    "The address of a first process of this one, which is started when it is first asked for."
    with _lock:
        if (key := (os.getpid(), hub)) not in _servers:
            folder = tempfile.mkdtemp()
            quiet = dict(TRANSFORMERS_VERBOSITY='error', DATASETS_VERBOSITY='error', HF_HUB_DISABLE_PROGRESS_BARS='1',
                         TOKENIZERS_PARALLELISM='true', OMP_NUM_THREADS='1', HF_HOME=f'{folder}/hf')
            process = subprocess.Popen([sys.executable, __file__, f'{folder}/socket', str(int(hub))],
                                       env=ENVIRONMENT | quiet, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
            while process.stdout.readline() not in (b'ready\n', b''): pass  # libraries greet too
            _servers[key] = f'{folder}/socket'
            atexit.register(process.kill)
        return _servers[key]


def import_slow():
    "What transformers and libdocs stand on; nothing of it reads where the Hub is."
    import numba, pandas, PIL.Image, pyarrow.dataset, pyarrow.parquet, scipy.stats, sklearn.linear_model, sympy, torch
    import torch._dynamo, torch.distributed.checkpoint, torch.distributed.fsdp, torch.distributed.tensor


# In the first process

def serve(address, hub):
    import_slow()
    if not hub:
        import datasets
        # what is found only when it is asked for
        from transformers import (AutoModelForSequenceClassification, AutoTokenizer,
                                  ModernBertForSequenceClassification, Trainer)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print('ready', flush=True)
    while True:
        link, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            attend(link)
        link.close()


def attend(link):
    "Between the first process and the job: reports the pid and, in the end, the exit code."
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked = json.loads(link.makefile().readline())
    if (pid := os.fork()) == 0:
        link.close()
        os._exit(work(asked))
    link.sendall(f'{pid}\n'.encode())
    link.sendall(f'{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n'.encode())
    os._exit(0)


def work(asked):
    "The job; its exit code."
    os.setsid()
    os.chdir(asked['cwd'])
    os.environ.clear()
    os.environ.update(asked['env'])
    for number, name in ((1, 'out'), (2, 'err')):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    tempfile.tempdir = None
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(0), os.fdopen(1, 'w', encoding='utf-8'),
                                         os.fdopen(2, 'w', buffering=1, encoding='utf-8', errors='backslashreplace'))
    sys.argv, sys.path[0] = asked['argv'], asked['cwd']
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked['file_size']:
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked['file_size'], asked['file_size']))
    try: exec(asked['program'], {'__name__': '__main__'})
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 1
    else: code = 0
    atexit._run_exitfuncs()
    sys.stdout.flush(), sys.stderr.flush()
    return code


if __name__ == '__main__': serve(sys.argv[1], sys.argv[2] == '1')
