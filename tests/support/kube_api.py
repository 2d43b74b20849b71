"""A small Kubernetes API server, for there is no cluster here: it stands in for kube-apiserver, and is asked by the real clients.

It knows pods and deployments, as far as kubernetes.core and `kubectl exec` ask for them, and is strict: what a real one would
refuse is refused, and every request that it does not understand is a violation, which fails the test. What a pod does
is up to a kubelet (see kube_node.py).
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import functools
import hashlib
import http.server
import io
import json
import os
import pathlib
import re
import socket
import ssl
import struct
import subprocess
import threading
import typing as t
import urllib.parse
import uuid

import kubernetes.client
import yaml

TOKEN = "test-token"
Object = dict[str, t.Any]
Rule = dict[str, list[str]]  # of an RBAC Role: apiGroups, resources, verbs
# The whole account of who may do what; a test that is about rights gives fewer.
EVERYTHING: list[Rule] = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
_VERBS = {"GET": "get", "POST": "create", "DELETE": "delete"}
_RESOURCES = {"pods": ("", "v1", "Pod"), "deployments": ("apps", "apps/v1", "Deployment")}
_PATH = re.compile(r"^/(?:api/v1|apis/(?P<group>apps)/v1)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[a-z]+))?)?$")
_QUERIES = {"list": {"labelSelector", "fieldSelector"}, "get": set(), "create": {"dryRun", "fieldManager"}, "delete": {"dryRun"}}


class Refused(Exception):
    """What the API answers with a Status object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}


class Kubelet(t.Protocol):
    """What runs the pods; see kube_node.py."""

    def start(self, pod: Object) -> Object:
        """Start a pod, and return its status."""

    def stop(self, pod: Object) -> None:
        """End what runs of a pod, if anything does."""

    def execute(self, pod: Object, container: str, argv: list[str]) -> subprocess.Popen[bytes]:
        """Start a program in a container, with pipes for its three streams."""


class KubeAPI:
    """The server, on the loopback address; kubeconfig is the path of a file by which clients find it.

    pods and deployments are what it knows, by (namespace, name); requests what it was asked; violations what no
    client of ours should ask. rules is what the account may; with silent it takes connections and says nothing.
    The kubelets of dead_nodes are down: pods there do not start, and are told to end and do not.
    """

    def __init__(self, folder: pathlib.Path, kubelet: Kubelet) -> None:
        self.kubelet = kubelet
        self.objects: dict[str, dict[tuple[str, str], Object]] = {"pods": {}, "deployments": {}}
        self.rules = EVERYTHING
        self.silent = False
        self.dead_nodes: set[str] = set()
        self.requests: list[str] = []
        self.violations: list[str] = []
        self.lock = threading.RLock()
        self._workers: list[threading.Thread] = []
        # kubectl tells its token to nobody without TLS.
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=kube-api",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self.port = 0
        self._listen()
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(
            yaml.safe_dump({
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(certificate)}}],
                "users": [{"name": "test", "user": {"token": TOKEN}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "elsewhere"}}],
            })
        )

    def _listen(self) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), type("Handler", (_Handler,), {"api": self}))
        self.port = self._server.server_address[1]
        self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def _deafen(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextlib.contextmanager
    def outage(self) -> t.Iterator[None]:
        """Refuse connections in the block, as an API server that does not run."""
        self._deafen()
        try:
            yield
        finally:
            self._listen()

    def close(self) -> None:
        """End the server and what its pods run."""
        self._deafen()
        for worker in self._workers:
            worker.join()
        for pod in self.objects["pods"].values():
            self.kubelet.stop(pod)

    @property
    def pods(self) -> dict[tuple[str, str], Object]:
        """The pods."""
        return self.objects["pods"]

    def helpers(self) -> list[Object]:
        """The helper pods."""
        return [pod for pod in list(self.pods.values()) if pod["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "nettap.containers"]

    def add_pod(self, name: str, node: str, *, namespace: str = "default", labels: dict[str, str] | None = None, **status: t.Any) -> Object:
        """Put a pod that runs there already, or has the status given."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels or {}, "uid": str(uuid.uuid4())},
            "spec": {"nodeName": node, "containers": [{"name": "app", "image": "x"}, {"name": "sidecar", "image": "x"}]},
            "status": {"phase": "Running", "hostIP": "192.0.2.1", "podIP": "10.1.1.1", **status},
        }
        self.pods[namespace, name] = pod
        return pod

    def handle(self, method: str, path: str, query: dict[str, str], headers: t.Mapping[str, str], body: bytes) -> Object:
        """What is answered to a request. Raises Refused."""
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        if method == "GET" and path in DISCOVERY:
            return DISCOVERY[path]
        match = _PATH.match(path)
        if not match or match["resource"] not in _RESOURCES or (match["group"] or "") != _RESOURCES[match["resource"]][0]:
            self.violations.append(f"{method} {path}: no such path")
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        verb = self.verb(method, match["name"])
        self.allowed(verb, match["resource"], match["namespace"])
        if set(query) - _QUERIES[verb]:
            self.violations.append(f"{method} {path}: parameters {sorted(query)}")
            raise Refused(400, "BadRequest", "unknown parameters")
        with self.lock:
            return getattr(self, f"_{verb}")(match["resource"], match["namespace"], match["name"], query, headers, body)

    @staticmethod
    def verb(method: str, name: str | None) -> str:
        """The verb that RBAC knows a request by."""
        return "list" if method == "GET" and not name else _VERBS[method]

    def allowed(self, verb: str, resource: str, namespace: str | None) -> None:
        """Raise Refused when no rule allows it."""
        group = _RESOURCES[resource.split("/")[0]][0]
        for rule in self.rules:
            if all({wanted, "*"} & set(rule[key]) for key, wanted in (("verbs", verb), ("resources", resource), ("apiGroups", group))):
                return
        where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
        raise Refused(403, "Forbidden", f'{resource} is forbidden: User "test" cannot {verb} resource "{resource}" in API group "{group}"{where}')

    def _list(self, resource: str, namespace: str | None, _name: None, query: dict[str, str], _headers: t.Any, _body: bytes) -> Object:
        labels, fields = parse_labels(query.get("labelSelector", "")), parse_fields(query.get("fieldSelector", ""))
        items = [
            item for (space, name), item in self.objects[resource].items()
            if namespace in (None, space) and all(matches(item["metadata"].get("labels") or {}) for matches in labels) and fields in (None, name)
        ]  # fmt: skip
        _group, version, kind = _RESOURCES[resource]
        # As in a real list, the items have no kind of their own.
        bare = [{key: value for key, value in item.items() if key not in ("apiVersion", "kind")} for item in items]
        return {"apiVersion": version, "kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": bare}

    def _get(self, resource: str, namespace: str, name: str, *_more: t.Any) -> Object:
        try:
            return self.objects[resource][namespace, name]
        except KeyError:
            raise Refused(404, "NotFound", f'{resource} "{name}" not found') from None

    def _create(self, resource: str, namespace: str, _name: None, query: dict[str, str], headers: t.Mapping[str, str], body: bytes) -> Object:
        if headers.get("Content-Type") != "application/json":
            self.violations.append(f"create {resource}: content type {headers.get('Content-Type')}")
            raise Refused(415, "UnsupportedMediaType", "the body must be application/json")
        new = json.loads(body)
        wrong = list(strict(new, "V1Pod"))
        if wrong or resource != "pods":
            self.violations.append(f"create {resource}: {wrong}")
            raise Refused(400, "BadRequest", f"strict decoding error: {', '.join(wrong)}")
        meta = new["metadata"]
        fits = (new["apiVersion"], new["kind"], meta["namespace"]) == ("v1", "Pod", namespace)
        if not fits or not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", meta["name"]):
            self.violations.append(f"create pods in {namespace}: {new['kind']} {meta}")
            raise Refused(422, "Invalid", "the object does not fit the request")
        for key, value in (meta.get("labels") or {}).items():
            if not re.fullmatch(r"([a-z0-9.-]+/)?[A-Za-z0-9._-]{1,63}", key) or not re.fullmatch(r"[A-Za-z0-9._-]{0,63}", value):
                raise Refused(422, "Invalid", f"metadata.labels: Invalid value: {key}={value}")
        if (namespace, meta["name"]) in self.pods:
            raise Refused(409, "AlreadyExists", f'pods "{meta["name"]}" already exists')
        meta.update(uid=f"uid-{meta['name']}", creationTimestamp=now(), resourceVersion="1")
        new["status"] = {"phase": "Pending"}
        if "dryRun" not in query:
            self.pods[namespace, meta["name"]] = new
            if new["spec"]["nodeName"] not in self.dead_nodes:
                self._work(self._run, new)
        return new

    def _delete(self, resource: str, namespace: str, name: str, query: dict[str, str], _headers: t.Any, body: bytes) -> Object:
        pod = self._get(resource, namespace, name)
        options = {key: value for key, value in json.loads(body or b"{}").items() if value is not None}
        if set(options) - {"kind", "apiVersion", "gracePeriodSeconds"}:
            self.violations.append(f"delete {resource}: {options}")
        if "dryRun" in query:
            return pod
        # Without a period of grace it is gone from the API at once, and no kubelet is waited for, which ends it nevertheless.
        forced = options.get("gracePeriodSeconds") == 0
        if forced:
            self.pods.pop((namespace, name))
        if forced or not pod["metadata"].get("deletionTimestamp"):
            pod["metadata"]["deletionTimestamp"] = now()
            if pod["spec"]["nodeName"] not in self.dead_nodes:
                self._work(self._end, pod)
        return pod

    def _work(self, work: t.Callable[[Object], None], pod: Object) -> None:
        self._workers.append(threading.Thread(target=work, args=(pod,)))
        self._workers[-1].start()

    def _run(self, pod: Object) -> None:
        with self.lock:
            pod["status"] = {"phase": "Pending", "startTime": now()}
        try:
            status = self.kubelet.start(pod)
        except Exception as error:
            self.violations.append(f"kubelet: {error}")
            status = {"phase": "Failed", "reason": "StartError", "message": str(error)}
        with self.lock:
            pod["status"] = {**pod["status"], **status, "hostIP": "192.0.2.1"}

    def _end(self, pod: Object) -> None:
        self.kubelet.stop(pod)
        with self.lock:
            self.pods.pop((pod["metadata"]["namespace"], pod["metadata"]["name"]), None)


class _Handler(http.server.BaseHTTPRequestHandler):
    """HTTP/1.1, and the WebSocket that `kubectl exec` asks for."""

    api: KubeAPI
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: t.Any) -> None:
        """Nothing: requests are kept."""

    def _serve(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        self.api.requests.append(f"{self.command} {self.path}")
        while self.api.silent:
            self.connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                if not self.connection.recv(1):
                    return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path.endswith("/exec"):
            self._exec(url)
            return
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        # kubectl says so with each discovery.
        if url.path in DISCOVERY and query == {"timeout": "32s"}:
            query = {}
        try:
            code, answer = 200, self.api.handle(self.command, url.path, query, {name.title(): value for name, value in self.headers.items()}, body)
            code = 201 if self.command == "POST" else 200
        except Refused as refused:
            code, answer = refused.code, refused.status
        self._answer(code, answer)

    def _answer(self, code: int, answer: Object) -> None:
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _serve

    def _exec(self, url: urllib.parse.SplitResult) -> None:
        """The subprotocol v5.channel.k8s.io: each message begins with its channel (see k8s.io/apimachinery/pkg/util/remotecommand)."""
        self.close_connection = True
        query = urllib.parse.parse_qs(url.query)
        _empty, _api, _v1, _namespaces, namespace, _pods, name, _exec = url.path.split("/")
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            # A request that is upgraded is a GET, and yet, in RBAC, both are asked for.
            self.api.allowed("create", "pods/exec", namespace)
            pod = self.api._get("pods", namespace, name)  # pylint: disable=protected-access
            [container] = query.pop("container")
            argv = query.pop("command")
            if container not in [item["name"] for item in pod["spec"]["containers"]] or pod["status"]["phase"] != "Running":
                raise Refused(400, "BadRequest", f"container {container} is not valid for pod {name}")
            if query.pop("stdin", None) != ["true"] or query.pop("stdout") != ["true"] or query.pop("stderr") != ["true"] or query:
                raise Refused(400, "BadRequest", f"unexpected parameters {query}")
            protocols = [text.strip() for text in self.headers.get("Sec-WebSocket-Protocol", "").split(",")]
            if self.command != "GET" or "v5.channel.k8s.io" not in protocols:
                raise Refused(400, "BadRequest", "this server speaks v5.channel.k8s.io over WebSocket only: kubectl must be 1.31 or newer")
        except Refused as refused:
            self._answer(refused.code, refused.status)
            return
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.send_header("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
        self.end_headers()
        self.wfile.flush()
        with self.api.kubelet.execute(pod, container, argv) as process:
            _Channels(self.connection, self.rfile).serve(process)


class _Channels:
    """The channels of one exec over a WebSocket (RFC 6455)."""

    STDIN, STDOUT, STDERR, ERROR, CLOSE = 0, 1, 2, 3, 255
    BINARY, CLOSING, PING, PONG = 2, 8, 9, 10

    def __init__(self, connection: socket.socket, reader: io.BufferedIOBase) -> None:
        self._connection = connection
        self._reader = reader
        self._lock = threading.Lock()

    def serve(self, process: subprocess.Popen[bytes]) -> None:
        """Carry the streams of a process, and at last tell how it ended."""
        assert process.stdin and process.stdout and process.stderr
        outputs = ((process.stdout, self.STDOUT), (process.stderr, self.STDERR))
        readers = [threading.Thread(target=self._carry, args=output) for output in outputs]
        writer = threading.Thread(target=self._feed, args=(process,))
        for thread in (*readers, writer):
            thread.start()
        for thread in readers:
            thread.join()
        code = process.wait()
        status: Object = {"metadata": {}, "status": "Success"}
        if code:
            cause = {"reason": "ExitCode", "message": str(code)}
            status = {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": f"exit code {code}", "details": {"causes": [cause]}}
        with contextlib.suppress(OSError):
            self._send(self.BINARY, bytes([self.ERROR]) + json.dumps(status).encode())
            self._send(self.CLOSING, struct.pack(">H", 1000))
        writer.join()

    def _carry(self, stream: t.IO[bytes], channel: int) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(stream.fileno(), 65536):
                self._send(self.BINARY, bytes([channel]) + data)

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        """What the client sends. It is done when the client is: then the process has no input any more."""
        stdin = process.stdin
        assert stdin
        try:
            while (frame := self._receive()) is not None:
                kind, data = frame
                if kind == self.CLOSING:
                    break
                if kind == self.PING:
                    self._send(self.PONG, data)
                elif kind == self.BINARY and data[:1] == bytes([self.STDIN]):
                    with contextlib.suppress(BrokenPipeError):
                        stdin.write(data[1:])
                        stdin.flush()
                elif kind == self.BINARY and data == bytes([self.CLOSE, self.STDIN]):
                    stdin.close()
        except OSError:
            process.terminate()
        finally:
            with contextlib.suppress(OSError, ValueError):
                stdin.close()

    def _receive(self) -> tuple[int, bytes] | None:
        """One message, put together from its fragments."""
        kind, message = 0, b""
        while True:
            head = self._reader.read(2)
            if len(head) < 2:
                return None
            final, opcode, length = head[0] & 0x80, head[0] & 0x0F, head[1] & 0x7F
            assert head[1] & 0x80, "a client must mask what it sends"
            if length >= 126:
                length = struct.unpack(">H" if length == 126 else ">Q", self._reader.read(2 if length == 126 else 8))[0]
            mask, data = self._reader.read(4), self._reader.read(length)
            repeated = (mask * (length // 4 + 1))[:length]
            data = (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
            kind, message = kind or opcode, message + data
            if final:
                return kind, message

    def _send(self, opcode: int, data: bytes) -> None:
        length = len(data)
        size = struct.pack(">B", length) if length < 126 else struct.pack(">BH", 126, length) if length < 65536 else struct.pack(">BQ", 127, length)
        with self._lock:
            self._connection.sendall(bytes([0x80 | opcode]) + size + data)


def now() -> str:
    """A time as the API writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def holds(key: str, values: list[str] | None, wanted: bool, labels: dict[str, str]) -> bool:
    """Whether it is as wanted that a label has one of the values (None: that it is there)."""
    return (key in labels if values is None else labels.get(key) in values) == wanted


def parse_labels(text: str) -> list[t.Callable[[dict[str, str]], bool]]:
    """The requirements of a label selector. Raises Refused for what is none."""
    wanted: list[t.Callable[[dict[str, str]], bool]] = []
    for part in re.findall(r"(?:[^,(]|\([^)]*\))+", text):
        part = part.strip()
        if match := re.fullmatch(r"([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)", part):
            wanted.append(functools.partial(holds, match[1], [value.strip() for value in match[3].split(",")], match[2] == "in"))
        elif match := re.fullmatch(r"([\w./-]+)\s*(==?|!=)\s*([\w.-]*)", part):
            wanted.append(functools.partial(holds, match[1], [match[3]], match[2] != "!="))
        elif match := re.fullmatch(r"(!?)([\w./-]+)", part):
            wanted.append(functools.partial(holds, match[2], None, not match[1]))
        else:
            raise Refused(400, "BadRequest", f"unable to parse requirement: {part}")
    return wanted


def parse_fields(text: str) -> str | None:
    """The name that a field selector asks for, the only field known here."""
    if not text:
        return None
    match = re.fullmatch(r"metadata\.name=([\w.-]+)", text)
    if not match:
        raise Refused(400, "BadRequest", f'field label not supported: "{text}"')
    return match[1]


def strict(value: t.Any, kind: str, where: str = "") -> t.Iterator[str]:
    """What does not fit the type of the API's own description, as the Kubernetes client has it: unknown fields, wrong types."""
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{where} is no list"
            return
        for number, item in enumerate(value):
            yield from strict(item, inner[1], f"{where}[{number}]")
    elif inner := re.fullmatch(r"dict\[str, (.+)\]", kind):
        for key, item in value.items():
            yield from strict(item, inner[1], f"{where}.{key}")
    elif kind.startswith("V1"):
        model = getattr(kubernetes.client, kind)
        types = {model.attribute_map[name]: of for name, of in model.openapi_types.items()}
        for key, item in value.items():
            if key not in types:
                yield f'unknown field "{where}.{key}"'
            else:
                yield from strict(item, types[key], f"{where}.{key}")
    elif kind in ("str", "int", "bool") and type(value).__name__ != kind:
        yield f"{where} is {value!r}, not {kind}"


def resources(*names: str) -> list[Object]:
    """Entries of an APIResourceList."""
    return [
        {
            "name": name, "singularName": name.split("/")[0].rstrip("s"), "namespaced": True,
            "kind": "PodExecOptions" if "/" in name else _RESOURCES[name][2], "verbs": ["create", "delete", "get", "list", "patch", "watch"],
        }
        for name in names
    ]  # fmt: skip


APPS = {"groupVersion": "apps/v1", "version": "v1"}
DISCOVERY: dict[str, Object] = {
    "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.4", "gitCommit": "0", "gitTreeState": "clean", "platform": "linux/amd64"},
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": {
        "kind": "APIGroupList", "apiVersion": "v1",
        "groups": [{"name": "apps", "versions": [APPS], "preferredVersion": APPS}],
    },
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources("pods", "pods/exec")},
    "/apis/apps/v1": {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1", "resources": resources("deployments")},
}  # fmt: skip
