"""A Hub on the loopback address, in memory, that the real clients (huggingface_hub, datasets,
transformers) can talk to.

    hub = LoopbackHub(); token = hub.add_user('alice'); subprocess.run(…, env=os.environ | hub.env(token))
    python tests/loopback_hub.py --port 8765        # by hand: HF_ENDPOINT=http://127.0.0.1:8765 HF_TOKEN=loopback-alice

It speaks plain LFS (set HF_HUB_DISABLE_XET=1, as `env` does), knows users, organizations and roles,
keeps every request and commit, and fails on demand: `fail`, `cut`, `lose_reply`, `delay`, `drip`,
`corrupt`."""
import argparse, base64, hashlib, json, re, secrets, shutil, socket, tempfile, threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LFS_SUFFIXES = ('.safetensors', '.bin', '.parquet', '.zst', '.gz')


@dataclass
class Blob:
    data: bytes
    lfs: bool = False
    @property
    def sha256(self): return hashlib.sha256(self.data).hexdigest()
    @property
    def pointer(self):
        return f'version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n'.encode()
    @property
    def oid(self):
        data = self.pointer if self.lfs else self.data
        return hashlib.sha1(b'blob %d\0' % len(data) + data).hexdigest()


@dataclass
class Commit:
    oid: str
    message: str
    files: dict  # path -> Blob, the complete tree


@dataclass
class Repo:
    kind: str  # 'model' or 'dataset'
    name: str
    private: bool = False
    gated: bool = False
    commits: list = field(default_factory=list)

    def commit(self, message, changed):
        files = {k: v for k, v in ((self.commits[-1].files if self.commits else {}) | changed).items() if v is not None}
        self.commits.append(Commit(secrets.token_hex(20), message, files))
        return self.commits[-1]

    def at(self, revision):
        if revision == 'main': return self.commits[-1]
        return next((c for c in self.commits if c.oid == revision), None)


@dataclass
class User:
    name: str
    token: str
    role: str = 'write'                        # of the token: 'read', 'write' or 'fineGrained'
    orgs: dict = field(default_factory=dict)   # name -> role in it: 'admin', 'write', 'read'
    scopes: list = field(default_factory=list) # of a fineGrained token: (owner or repo, [permissions])

    def may_write(self, name):
        owner = name.split('/')[0]
        if self.role == 'fineGrained':
            return any('repo.write' in what for where, what in self.scopes if where in (name, owner))
        return self.role == 'write' and (owner == self.name or self.orgs.get(owner) in ('admin', 'write'))


class Fault(Exception):
    "An answer that is not 200."
    def __init__(self, status, message='', code=None, **headers):
        self.status, self.message = status, message
        self.headers = headers | ({'X-Error-Code': code} if code
                                  else {}) | ({'X-Error-Message': message} if message else {})


class Hub404(Fault):
    def __init__(self, code, message): super().__init__(404, message, code)


@dataclass
class Reply:
    body: bytes = b''
    status: int = 200
    headers: dict = field(default_factory=dict)


def as_json(value, **more):
    return Reply(json.dumps(value).encode(), headers={'Content-Type': 'application/json'}, **more)


@dataclass
class Request:
    method: str
    path: str
    query: dict
    headers: object
    body: bytes
    user: User | None
    @property
    def json(self): return json.loads(self.body or b'{}')


# The endpoints. Each takes the hub, the request and the groups of its route; it returns a Reply or raises a Fault.

def whoami(hub, request):
    if not request.user: raise Fault(401, 'Invalid credentials in Authorization header')
    user, token = request.user, {'displayName': 'loopback', 'role': request.user.role}
    if user.scopes:
        token['fineGrained'] = {'scoped': [{'entity': {'type': 'user', 'name': n}, 'permissions': p}
                                           for n, p in user.scopes]}
    return as_json({'type': 'user', 'name': user.name,
                    'orgs': [{'type': 'org', 'name': n, 'roleInOrg': r} for n, r in user.orgs.items()],
                    'auth': {'type': 'access_token', 'accessToken': token}})


def create(hub, request):
    if not request.user: raise Fault(401, 'Invalid username or password.')
    ask = request.json
    name, kind = f"{ask.get('organization') or request.user.name}/{ask['name']}", ask.get('type') or 'model'
    if not request.user.may_write(name):
        raise Fault(403, f'You don\'t have the rights to create a {kind} under the namespace "{name.split("/")[0]}"')
    url = f'{hub.url}/{prefix(kind)}{name}'
    if (kind, name) in hub.repos:
        return as_json({'error': f'You already created this {kind} repo', 'url': url}, status=409)
    hub.create(name, kind, private=ask.get('visibility') == 'private' or ask.get('private', False))
    return as_json({'url': url, 'name': name})


def validate_yaml(hub, request): return as_json({'errors': [], 'warnings': []})


def info(hub, request, kind, name, revision='main'):
    repo, commit = hub.readable(request, kind, name, revision)
    return as_json({'id': name, '_id': '0', 'author': name.split('/')[0], 'sha': commit.oid,
                    'private': repo.private, 'gated': repo.gated, 'disabled': False,
                    'tags': [], 'downloads': 0, 'likes': 0, 'siblings': [{'rfilename': p} for p in commit.files]})


def auth_check(hub, request, kind, name, write=None):
    hub.readable(request, kind, name)
    if write: hub.writable(request, kind, name)
    return as_json({})


def entry(path, blob):
    lfs = {'lfs': {'oid': blob.sha256, 'size': len(blob.data), 'pointerSize': len(blob.pointer)}} if blob.lfs else {}
    return {'type': 'file', 'path': path, 'oid': blob.oid, 'size': len(blob.data)} | lfs


def folders(files): return {p.rsplit('/', n)[0] for p in files for n in range(1, p.count('/') + 1)}


def tree(hub, request, kind, name, revision, path=''):
    _, commit = hub.readable(request, kind, name, revision)
    path = unquote(path or '').strip('/')
    inside = {p: b for p, b in commit.files.items() if not path or p.startswith(path + '/')}
    if not inside: raise Hub404('EntryNotFound', f'{path} does not exist')
    deep = request.query.get('recursive', ['false'])[0].lower() == 'true'
    here = lambda p: deep or '/' not in p.removeprefix(path).strip('/')
    dirs = [{'type': 'directory', 'path': d, 'oid': hashlib.sha1(d.encode()).hexdigest(), 'size': 0}
            for d in sorted(folders(inside)) if d != path and d.startswith(path) and here(d)]
    entries = dirs + [entry(p, b) for p, b in inside.items() if here(p)]
    start = int(request.query.get('cursor', ['0'])[0])
    reply = as_json(entries[start:start + hub.page])
    if start + hub.page < len(entries):
        reply.headers['Link'] = f'<{hub.url}{request.path}?recursive={deep}&cursor={start + hub.page}>; rel="next"'
    return reply


def paths_info(hub, request, kind, name, revision):
    _, commit = hub.readable(request, kind, name, revision)
    paths = [p.strip('/') for p in parse_qs(request.body.decode()).get('paths', [])]
    dirs = [{'type': 'directory', 'path': d, 'oid': '0' * 40, 'size': 0} for d in paths if d in folders(commit.files)]
    return as_json(dirs + [entry(p, commit.files[p]) for p in paths if p in commit.files])


def preupload(hub, request, kind, name, revision):
    repo = hub.writable(request, kind, name)
    def mode(file):
        return ('lfs' if file['size'] > hub.lfs_over or file['path'].endswith(LFS_SUFFIXES)
                or b'\0' in base64.b64decode(file['sample']) else 'regular')
    def oid(path):
        old = repo.commits[-1].files.get(path)
        return {'oid': old.sha256 if old.lfs else old.oid} if old else {}
    return as_json({'files': [{'path': f['path'], 'uploadMode': mode(f),
                               'shouldIgnore': False} | oid(f['path']) for f in request.json['files']]})


def lfs_batch(hub, request, kind, name):
    hub.writable(request, kind, name)
    def answer(ask):
        oid, size = ask['oid'], ask['size']
        if oid in hub.lfs: return {'oid': oid, 'size': size}
        upload = {'href': f'{hub.cdn}/lfs/{oid}'}
        if size > hub.part_size:
            parts = {str(n + 1): f'{hub.cdn}/lfs/{oid}/{n + 1}' for n in range(-(-size // hub.part_size))}
            upload = {'href': f'{hub.url}/lfs/{oid}/complete', 'header': {'chunk_size': str(hub.part_size)} | parts}
        return {'oid': oid, 'size': size,
                'actions': {'upload': upload, 'verify': {'href': f'{hub.url}/lfs/{oid}/verify'}}}
    return as_json({'transfer': 'basic', 'objects': [answer(o) for o in request.json['objects']]})


def lfs_put(hub, request, oid, part=None):
    hub.parts.setdefault(oid, {})[int(part or 1)] = request.body
    if not part: lfs_complete(hub, request, oid)
    return Reply(headers={'ETag': f'"{hashlib.md5(request.body).hexdigest()}"'})


def lfs_complete(hub, request, oid):
    data = b''.join(v for _, v in sorted(hub.parts.pop(oid, {}).items()))
    if hashlib.sha256(data).hexdigest() != oid:
        raise Fault(422, 'the content does not have that sha256')
    hub.lfs[oid] = data
    return as_json({})


def lfs_verify(hub, request, oid):
    if len(hub.lfs.get(oid, b'')) != request.json['size']: raise Fault(404, 'no such object')
    return as_json({})


def commit(hub, request, kind, name, revision):
    repo = hub.writable(request, kind, name)
    changed, head = {}, {}
    for line in request.body.splitlines():
        item = json.loads(line)
        value, path = item['value'], item['value'].get('path')
        if item['key'] == 'header': head = value
        elif item['key'] == 'file': changed[path] = Blob(base64.b64decode(value['content']))
        elif item['key'] == 'lfsFile':
            if value['oid'] not in hub.lfs:
                raise Fault(400, f'LFS object {value["oid"]} was never uploaded')
            changed[path] = Blob(hub.lfs[value['oid']], lfs=True)
        elif item['key'] == 'deletedFile': changed[path] = None
        elif item['key'] == 'deletedFolder':
            changed |= {p: None for p in repo.commits[-1].files if p.startswith(path.rstrip('/') + '/')}
    if head.get('parentCommit') not in (None, repo.commits[-1].oid):
        raise Fault(412, 'A commit has happened since. Please refresh and try again.')
    new = repo.commit(head['summary'], changed)
    return as_json({'success': True, 'commitOid': new.oid,
                    'commitUrl': f'{hub.url}/{prefix(kind)}{name}/commit/{new.oid}', 'hookOutput': ''})


def resolve(hub, request, kind, name, revision, path):
    _, commit = hub.readable(request, kind, name, revision)
    blob, where = commit.files.get(unquote(path)), {'X-Repo-Commit': commit.oid}
    if blob is None: raise Fault(404, 'Entry not found', 'EntryNotFound', **where)
    if not blob.lfs: return ranged(request, blob.data, where | {'ETag': f'"{blob.oid}"'})
    linked = {'X-Linked-ETag': f'"{blob.sha256}"', 'X-Linked-Size': str(len(blob.data)),
              'Location': f'{hub.cdn}/lfs/{blob.sha256}'}
    return Reply(status=302, headers=where | linked)


def lfs_get(hub, request, oid):
    if oid not in hub.lfs: raise Fault(404, 'no such object')
    return ranged(request, hub.lfs[oid], {'ETag': f'"{oid}"'})


def ranged(request, data, headers):
    "The data, or the part of it that the request's Range asks for."
    headers = {'Content-Type': 'application/octet-stream', 'Accept-Ranges': 'bytes'} | headers
    match = re.fullmatch(r'bytes=(\d+)-(\d*)', request.headers.get('Range', ''))
    if not match: return Reply(data, headers=headers)
    start, end = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
    if start >= len(data):
        raise Fault(416, 'no such range', **{'Content-Range': f'bytes */{len(data)}'})
    return Reply(data[start:end + 1], status=206,
                 headers=headers | {'Content-Range': f'bytes {start}-{end}/{len(data)}'})


def prefix(kind): return 'datasets/' if kind == 'dataset' else ''


API = r'/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+?|[^/]+?)'
FILE = r'/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+?|[^/]+?)'
OID = r'/lfs/(?P<oid>[0-9a-f]{64})'
ROUTES = [(methods.split(), re.compile(pattern), function) for methods, pattern, function in [
    ('GET',      r'/api/whoami-v2', whoami),
    ('POST',     r'/api/repos/create', create),
    ('POST',     r'/api/validate-yaml', validate_yaml),
    ('GET HEAD', API + r'(?:/revision/(?P<revision>[^/]+))?', info),
    ('GET',      API + r'/auth-check(?P<write>/write)?', auth_check),
    ('GET',      API + r'/tree/(?P<revision>[^/]+)(?P<path>/.*)?', tree),
    ('POST',     API + r'/paths-info/(?P<revision>[^/]+)', paths_info),
    ('POST',     API + r'/preupload/(?P<revision>[^/]+)', preupload),
    ('POST',     API + r'/commit/(?P<revision>[^/]+)', commit),
    ('POST',     FILE + r'\.git/info/lfs/objects/batch', lfs_batch),
    ('GET HEAD', FILE + r'/resolve/(?P<revision>[^/]+)/(?P<path>.+)', resolve),
    ('GET HEAD', OID, lfs_get),
    ('PUT',      OID + r'(?:/(?P<part>\d+))?', lfs_put),
    ('POST',     OID + r'/complete', lfs_complete),
    ('POST',     OID + r'/verify', lfs_verify),
    ('GET HEAD', r'/', lambda hub, request: Reply(b'loopback hub')),
]]


class LoopbackHub:
    """The Hub: `url` to talk to; `add_user`, `create`, `push` to fill it; `requests`, `commits` to look;
    `fail` and its kin to break it."""

    def __init__(self, port=0):
        self.reset()
        handler = type('Handler', (Handler,), {'hub': self})
        self.server = ThreadingHTTPServer(('127.0.0.1', port), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f'http://127.0.0.1:{self.port}'
        self.cdn = f'http://localhost:{self.port}'  # another origin, as the Hub's storage is
        threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True).start()

    def reset(self):
        self.repos, self.users, self.lfs, self.parts = {}, {}, {}, {}
        self.requests, self.faults, self.lock, self.received = [], [], threading.Lock(), 0  # bytes of large files
        self.page, self.lfs_over, self.part_size = 1000, 10_000_000, 1 << 40

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def env(self, token=None, home=None):
        "Environment for a subprocess whose Hub is this one; `home` is its HF_HOME (a new folder if None)."
        return {'HF_ENDPOINT': self.url, 'HF_TOKEN': token or '',
                'HF_HOME': str(home or tempfile.mkdtemp(prefix='hf-home-')), 'HF_HUB_DISABLE_XET': '1',
                'HF_HUB_DISABLE_TELEMETRY': '1', 'HF_HUB_DISABLE_UPDATE_CHECK': '1',
                'NO_PROXY': '127.0.0.1,localhost', 'no_proxy': '127.0.0.1,localhost'}

    # What stands on it

    def add_user(self, name, role='write', orgs=None, scopes=(), token=None):
        "A user, and the token to log in with; a second call with another role makes a second token of the same user."
        token = token or f'hf_{name}{role}{secrets.token_hex(12)}'
        self.users[token] = User(name, token, role, dict(orgs or {}), list(scopes))
        return token

    def create(self, name, kind='model', private=False, gated=False):
        self.repos[kind, name] = repo = Repo(kind, name, private, gated)
        repo.commit('initial commit', {'.gitattributes': Blob(b'*.safetensors filter=lfs diff=lfs merge=lfs -text\n')})
        return repo

    def push(self, name, files, kind='model', message='put', **options):
        "Put files (path -> bytes) straight into a repo, as someone else might have."
        repo = self.repos.get((kind, name)) or self.create(name, kind, **options)
        blobs = {p: Blob(d, lfs=p.endswith(LFS_SUFFIXES)) for p, d in files.items()}
        self.lfs |= {b.sha256: b.data for b in blobs.values() if b.lfs}
        return repo.commit(message, blobs)

    def repo(self, name, kind='model'): return self.repos[kind, name]

    def files(self, name, kind='model'):
        "path -> bytes at the head of a repo, without .gitattributes."
        return {p: b.data for p, b in self.repos[kind, name].commits[-1].files.items() if p != '.gitattributes'}

    def commits(self, name, kind='model'):
        "The messages of the commits of a repo, without the one that made it."
        return [c.message for c in self.repos[kind, name].commits[1:]]

    def asked(self, method, pattern=''):
        "The requests seen: (method, path, status)."
        return [r for r in self.requests if r[0] == method and re.search(pattern, r[1])]

    # Who may do what

    def readable(self, request, kind, name, revision='main'):
        repo, user = self.repos.get((kind, name)), request.user
        owner = name.split('/')[0]
        mine = bool(user) and (user.name == owner or owner in user.orgs)
        if 'Authorization' in request.headers and not user:
            raise Fault(401, 'Invalid credentials in Authorization header')
        if repo is None or (repo.private and not mine):
            raise Fault(404 if user else 401, 'Repository not found', 'RepoNotFound')
        if repo.gated and not mine and request.path.count('/resolve/'):
            raise Fault(403 if user else 401, f'Access to {name} is restricted', 'GatedRepo')
        if (commit := repo.at(unquote(revision or 'main'))) is None:
            raise Hub404('RevisionNotFound', f'Invalid rev id: {revision}')
        return repo, commit

    def writable(self, request, kind, name):
        repo, _ = self.readable(request, kind, name)
        if not request.user or not request.user.may_write(name):
            raise Fault(403, 'Forbidden: you must use a write token to upload to a repository.')
        return repo

    # Faults: each is spent after `times` requests that match, of which the first `skip` are let through

    def fail(self, method, pattern, status=500, times=1, headers=None, message='loopback fault', code=None, skip=0):
        "Answer with `status` instead of doing anything."
        self._fault('fail', method, pattern, times, skip, reply=Fault(status, message, code, **(headers or {})))

    def cut(self, method, pattern, times=1, skip=0):
        "Close the connection without an answer, nothing done."
        self._fault('cut', method, pattern, times, skip)

    def lose_reply(self, method=r'POST', pattern=r'/commit/', times=1, skip=0):
        "Do what was asked, then close the connection without an answer."
        self._fault('lose', method, pattern, times, skip)

    def hold(self, method, pattern, until, times=1, skip=0):
        "Answer when `until`, an Event or a Barrier, no longer has to be waited for."
        self._fault('hold', method, pattern, times, skip, until=until)

    def drip(self, method, pattern, seconds, times=1, skip=0):
        "Send the answer in twenty pieces that take `seconds` together."
        self._fault('drip', method, pattern, times, skip, seconds=seconds)

    def corrupt(self, pattern, times=1, skip=0):
        "Send a download of the right size with wrong bytes."
        self._fault('corrupt', 'GET', pattern, times, skip)

    def _fault(self, what, method, pattern, times, skip, **more):
        self.faults.append({'what': what, 'method': method, 'pattern': pattern, 'times': times, 'skip': skip} | more)

    def take_fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                if not fault['times'] or not re.fullmatch(fault['method'],
                                                          method) or not re.search(fault['pattern'], path):
                    continue
                early = fault['skip'] > 0
                fault['skip' if early else 'times'] -= 1
                if not early: return fault
        return {'what': None}


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    hub = None

    def do(self):
        parts = urlsplit(self.path)
        body = self._body()
        if body is None: return
        if self.command == 'PUT': self.hub.received += len(body)
        fault = self.hub.take_fault(self.command, parts.path)
        if fault['what'] == 'hold': fault['until'].wait()
        if fault['what'] == 'cut': return self._hang_up(parts.path)
        request = Request(self.command, parts.path, parse_qs(parts.query), self.headers, body, self._user())
        reply = self._answer(request, fault.get('reply'))
        if fault['what'] == 'lose': return self._hang_up(parts.path)
        if fault['what'] == 'corrupt': reply.body = bytes(255 - b for b in reply.body)
        self._send(reply, fault['seconds'] if fault['what'] == 'drip' else 0)

    do_GET = do_HEAD = do_POST = do_PUT = do

    def _answer(self, request, planned):
        try:
            if planned: raise planned
            for methods, pattern, function in ROUTES:
                if request.method in methods and (match := pattern.fullmatch(request.path)):
                    fields = {k: v for k, v in match.groupdict().items() if v is not None}
                    if pattern.pattern.startswith((API, FILE)):
                        fields['kind'] = 'dataset' if fields.get('kind', '').startswith('dataset') else 'model'
                    with self.hub.lock: return function(self.hub, request, **fields)
            raise Fault(404, f'no such address: {request.method} {request.path}')
        except Fault as fault:
            # a 409 must carry a url
            reply = as_json({'error': fault.message, 'url': f'{self.hub.url}/some/repo'}, status=fault.status)
            reply.headers |= fault.headers
            return reply

    def _user(self):
        return self.hub.users.get(self.headers.get('Authorization', '').removeprefix('Bearer ').strip())

    def _body(self):
        try:
            if self.headers.get('Transfer-Encoding', '').lower() != 'chunked':
                return self.rfile.read(int(self.headers.get('Content-Length') or 0))
            chunks = []
            while size := int(self.rfile.readline().split(b';')[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b''.join(chunks)
        except (ConnectionError, ValueError):  # the client went away in the middle
            self.close_connection = True

    def _send(self, reply, drip=0):
        self.hub.requests.append((self.command, urlsplit(self.path).path, reply.status))
        try:
            self.send_response(reply.status)
            for name, value in ({'Content-Length': str(len(reply.body))} | reply.headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != 'HEAD': self._write(reply.body, drip)
        except ConnectionError: self.close_connection = True

    def _write(self, body, drip):
        if not drip: return self.wfile.write(body)
        size = -(-len(body) // 20) or 1
        for start in range(0, len(body), size):
            self.wfile.write(body[start:start + size])
            threading.Event().wait(drip / 20)

    def _hang_up(self, path):
        self.hub.requests.append((self.command, path, 0))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args): pass


def forget_cache(home):
    "Remove what the Hub's clients have fetched."
    for folder in ('hub', 'datasets', 'modules'): shutil.rmtree(Path(home)/folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description='A Hub on the loopback address, in memory.')
    parser.add_argument('--port', type=int, default=8765)
    parser.add_argument('--user', default='alice', help='a user to begin with; the token is loopback-USER')
    args = parser.parse_args()
    hub = LoopbackHub(args.port)
    token = hub.add_user(args.user, token=f'loopback-{args.user}')
    print('\n'.join(f'export {k}={v}' for k, v in hub.env(token).items()), flush=True)
    try: threading.Event().wait()
    except KeyboardInterrupt: hub.close()


if __name__ == '__main__': main()
