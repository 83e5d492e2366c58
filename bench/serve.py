"""`libdocs serve` under load: one client, then many at once, then more than may wait.

    python bench/serve.py [--clients 200] [--seconds 60] [--write]

The model is MiniLM with a linear layer on letters of 12 words. Each client sends one text a request, over a
connection that stays open, and the next one when the answer is there; after a 429 it waits as long as it is told.
Every answer is compared with what the class says of the same text, so that an answer that is lost, mixed up or
wrong is counted. Server and clients share the machine."""
import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from main_job import machine, write

HEADS = ['| clients | may wait | answers | a second | p50 | p95 | longest | told to wait (429) | faults '
         '| texts a batch |',
         '|---|---|---|---|---|---|---|---|---|---|']


def make_model(folder: Path) -> dict:
    "The model in `folder`; texts and what the class says of them: (label, confidence)."
    from libdocs.classifiers.deberta import DebertaZeroShot
    from libdocs.core.labels import LabelSchema
    from libdocs.finetune.data import Task
    from libdocs.finetune.finetune import finetune
    from libdocs.utils.examples import letters
    rng = np.random.default_rng(0)
    train, new = letters(100, rng), list(letters(1000, rng)['text'])
    task = Task('letters', train, train, LabelSchema.from_labels(train['label']))
    finetune(task, str(folder/'model'), base_model='minilm', method='linear-head', device='cpu', track='none')
    answers = DebertaZeroShot(str(folder/'model'), device='cpu').classify(new)
    return {text: ranked[0] for text, ranked in zip(new, answers)}


@contextmanager
def server(folder: Path, waiting: int):
    "(host, port, key) of the command in a process of its own."
    words = ['serve', './model', '--device', 'cpu', '--port', '0', '--max-waiting', str(waiting)]
    child = subprocess.Popen([sys.executable, '-m', 'libdocs.command', *words], cwd=folder, stdout=subprocess.PIPE,
                             text=True)
    try: yield re.search(r'http://(.+):(\d+)/\?key=(\S+)', child.stdout.readline()).groups()
    finally:
        child.terminate()
        if child.wait(): sys.exit(f'the server ended with {child.returncode}')


class Connection:
    "One that stays open, with as little work for this side as possible."
    def __init__(self, host: str, port: str, key: str): self.host, self.port, self.key = host, port, key

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        return self

    async def __aexit__(self, *_): self.writer.close()

    async def ask(self, path: str, body: dict = None) -> tuple:
        "(status, headers, content)."
        sent = json.dumps(body).encode() if body else b''
        self.writer.write((f'{"POST" if body else "GET"} {path} HTTP/1.1\r\nHost: {self.host}\r\nX-Key: {self.key}\r\n'
                           f'Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n').encode() + sent)
        head = (await self.reader.readuntil(b'\r\n\r\n')).decode().lower()
        headers = dict(line.split(': ', 1) for line in head.split('\r\n')[1:] if line)
        return int(head.split()[1]), headers, await self.reader.readexactly(int(headers['content-length']))


async def client(number: int, at: tuple, known: dict, until: float, found: dict):
    "Ask until the time is over; what came of it goes to `found`."
    texts = list(known)
    async with Connection(*at) as link:
        while time.monotonic() < until:
            text = texts[(number + len(found['seconds']) * 7) % len(texts)]
            start = time.monotonic()
            try: status, headers, content = await link.ask('/classify', dict(texts=[text]))
            except (OSError, EOFError):
                found['faults'] += 1
                return
            if status == 429:
                found['refused'] += 1
                await asyncio.sleep(float(headers['retry-after']))
            elif status == 200 and right(json.loads(content), *known[text]):
                found['seconds'].append(time.monotonic() - start)
            else: found['faults'] += 1


def right(said: dict, label: str, probability: float) -> bool:
    "Whether the answer is that of the class, but for rounding, which depends on the texts that are computed together."
    [answer] = said['answers']
    return abs(dict(zip(answer['predictions'], answer['scores']))[label] - probability) < .01


async def load(clients: int, seconds: float, at: tuple, known: dict) -> dict:
    "All clients at once."
    found, until = dict(seconds=[], refused=0, faults=0), time.monotonic() + seconds
    await asyncio.gather(*(client(n, at, known, until, found) for n in range(clients)))
    async with Connection(*at) as link: measures = (await link.ask('/metrics'))[2].decode()
    def total(name): return float(re.search(rf'^libdocs_batch_texts_{name} (\S+)', measures, re.M)[1])
    return found | dict(batch=total('sum') / total('count'))


def row(clients: int, seconds: float, waiting: int, folder: Path, known: dict) -> str:
    "The row of a server of its own."
    with server(folder, waiting) as at:
        asyncio.run(load(clients, 3, at, known))  # warm
        found = asyncio.run(load(clients, seconds, at, known))
    times = np.array(found['seconds']) * 1000
    middle, late = np.percentile(times, [50, 95])
    return (f'| {clients} | {waiting:,} | {len(times):,} | {len(times) / seconds:,.0f} | {middle:,.0f} ms | '
            f'{late:,.0f} ms | {times.max():,.0f} ms | {found["refused"]:,} | {found["faults"]:,} | '
            f'{found["batch"]:.1f} |')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--clients', type=int, default=200)
    p.add_argument('--seconds', type=float, default=60)
    p.add_argument('--write', action='store_true', help='put the table into bench/RESULTS.md')
    args = p.parse_args()
    lines = [machine(), '', f'{args.seconds:g} s each; load of the machine before it began (1 and 5 minutes): '
             f'{os.getloadavg()[0]:.1f} and {os.getloadavg()[1]:.1f}.', '', *HEADS]
    with tempfile.TemporaryDirectory() as folder:
        known = make_model(Path(folder))
        for clients, waiting in ((1, 1000), (args.clients, 1000), (args.clients, args.clients // 2)):
            lines.append(row(clients, args.seconds, waiting, Path(folder), known))
            print(lines[-1], flush=True)
    if args.write: write('\n'.join(lines), 'serve.py')


if __name__ == '__main__': main()
