"""A W&B server on the loopback address that the real client can talk to: just enough to have a run
online, and to go away in the middle of it.

    server = LoopbackWandb(); subprocess.run(…, env=os.environ | server.env())

`behaviour` says what it does with a request: 'answer'; 'refuse' (401, as for a key that is not
known); 'cut' the connection; or 'hang', never to answer. `then` says what it does once metrics have
come."""
import json, socket, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = 'loopback' * 5


class LoopbackWandb:
    def __init__(self, behaviour='answer', then='answer'):
        self.behaviour, self.then, self.requests, self.over = behaviour, then, [], threading.Event()
        handler = type('Handler', (Handler,), {'wandb': self})
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
        self.server.daemon_threads = True
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True).start()

    def env(self):
        return {'WANDB_BASE_URL': self.url, 'WANDB_API_KEY': KEY, 'WANDB_MODE': None,
                'NO_PROXY': '127.0.0.1,localhost', 'no_proxy': '127.0.0.1,localhost'}

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path, asked):
        "The answer to one request, of the kinds that the client makes."
        if path.endswith('/file_stream'): self.behaviour = self.then
        query, given = asked.get('query', ''), asked.get('variables') or {}
        if 'UpsertBucket' in query:
            bucket = dict(id='1', name=given.get('name') or 'run', displayName='run',
                          project=dict(id='1', name='libdocs', entity=dict(id='1', name='alice')), historyLineCount=0)
            return dict(data=dict(upsertBucket=dict(bucket=bucket, inserted=True)))
        if 'CreateRunFiles' in query:
            files = [dict(name=name, uploadUrl=f'{self.url}/upload/{name}') for name in given.get('files', [])]
            return dict(data=dict(createRunFiles=dict(runID='1', uploadHeaders=[], files=files)))
        return dict(data={})


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wandb = None

    def do(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        self.wandb.requests.append((self.command, self.path, body))
        if self.wandb.behaviour == 'hang': return self.wandb.over.wait()
        if self.wandb.behaviour == 'cut': return self.hang_up()
        try: asked = json.loads(body or b'{}')
        except ValueError: asked = {}
        refused = self.wandb.behaviour == 'refuse' and self.path != '/'
        out = json.dumps(dict(errors=[dict(message='unknown key')]) if refused
                         else self.wandb.answer(self.path, asked)).encode()
        self.send_response(401 if refused else 200)
        for name, value in (('Content-Type', 'application/json'), ('Content-Length', str(len(out)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(out)

    do_GET = do_HEAD = do_POST = do_PUT = do

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args): pass
