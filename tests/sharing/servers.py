"""Real servers of storage and of MLflow on loopback, and a proxy that counts the bytes on their wire.

S3: SeaweedFS, with users and rights. SSH: OpenSSH's sshd with its own host key and user key.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
WEED = ROOT / ".services/seaweedfs/bin/weed"
MLFLOW = ROOT / ".services/mlflow"
BUCKET = "press"


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_for(ready: Callable[[], bool], process: subprocess.Popen, what: str, log: Path) -> None:
    """Return once ``ready``; AssertionError with the end of the server's log if it dies or takes four minutes.

    MLflow takes half a minute of one processor before it listens.
    """
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        if ready():
            return
        time.sleep(0.1)
    raise AssertionError(f"{what} did not start:\n{log.read_text(errors='replace')[-2000:]}")


class Server:
    """A process that can be killed without notice and started again on the same data."""

    name: str
    port: int
    command: list[str]
    log: Path
    process: subprocess.Popen | None = None

    def start(self) -> None:
        # SeaweedFS would take AWS credentials of its environment for an administrator's
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self.ready, self.process, self.name, self.log)

    def ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """SIGKILL to the server and all that it started."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class MlflowServer(Server):
    """MLflow with its store in SQLite, installed apart from the pipeline's packages."""

    name = "MLflow"

    def __init__(self, folder: Path) -> None:
        assert (MLFLOW / "mlflow").is_dir(), "run make setup-test-services"
        (self.port,) = free_ports(1)
        self.log = folder / "mlflow.log"
        self.url = f"http://127.0.0.1:{self.port}"
        store = [f"--backend-store-uri=sqlite:///{folder}/store.db", f"--artifacts-destination={folder}/artifacts"]
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        own = [
            "env",
            f"PYTHONPATH={MLFLOW}",
            "MLFLOW_DISABLE_TELEMETRY=true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false",
        ]
        self.command = [*own, sys.executable, "-m", "mlflow", "server", *store, *place]


class S3Server(Server):
    """SeaweedFS with one bucket and three users: owner reads and writes it, reader reads, stranger may neither."""

    name = "SeaweedFS"

    def __init__(self, folder: Path) -> None:
        assert WEED.is_file(), "run make services"
        rights = {"owner": ["Read", "Write", "List", "Tagging"], "reader": ["Read", "List"]}
        users = {user: [f"{right}:{BUCKET}" for right in granted] for user, granted in rights.items()}
        users |= {"stranger": ["Read:other", "List:other"], "admin": ["Admin"]}
        identities = [
            {"name": user, "credentials": [{"accessKey": user, "secretKey": self.secret(user)}], "actions": actions}
            for user, actions in users.items()
        ]
        self.folder, self.log = folder, folder / "weed.log"
        (folder / "data").mkdir(parents=True)
        (folder / "identities.json").write_text(json.dumps({"identities": identities}))
        self.port, *ports = free_ports(8)
        names = ("s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
        named = dict(zip((*names, "filer.port", "filer.port.grpc"), ports, strict=True))
        self.command = [
            *(str(WEED), "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-{name}={port}" for name, port in named.items()),
            *("-filer", "-s3", f"-s3.port={self.port}", f"-s3.config={folder / 'identities.json'}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
            *("-volume.max=20", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"),
        ]
        self.start()
        self.filesystem().mkdir(BUCKET)

    @staticmethod
    def secret(user: str) -> str:
        return f"secret-of-{user}-7d1f"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, user: str = "owner") -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": self.secret(user)}
        return {**keys, "AWS_EC2_METADATA_DISABLED": "true"}

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
                return answer.status == 200 and self._writable()
        except OSError:
            return False

    def _writable(self) -> bool:
        """The gateway answers before the volume server has joined: ask the filer for a real write."""
        filer = next(word for word in self.command if word.startswith("-filer.port=")).partition("=")[2]
        request = urllib.request.Request(f"http://127.0.0.1:{filer}/ready", data=b"ready" * 1000, method="PUT")
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status == 201

    def filesystem(self):
        """The whole server, through s3fs, with all rights."""
        import s3fs

        return s3fs.S3FileSystem(
            key="admin",
            secret=self.secret("admin"),
            client_kwargs={"endpoint_url": self.url},
            skip_instance_cache=True,
            use_listings_cache=False,
        )


class SshServer(Server):
    """sshd for the user that runs the tests, who logs in with a key made for it."""

    name = "sshd"

    def __init__(self, folder: Path) -> None:
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert sshd, "sshd is missing: apt-get install openssh-server"
        folder.mkdir(mode=0o700)
        self.folder, self.log = folder, folder / "sshd.log"
        for key in ("host_key", "user_key", "other_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        shutil.copyfile(folder / "user_key.pub", folder / "authorized_keys")
        (self.port,) = free_ports(1)
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": folder / "host_key",
            "AuthorizedKeysFile": folder / "authorized_keys",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "StrictModes": "no",
            "PidFile": "none",
            "UsePAM": "no",
            "Subsystem": "sftp internal-sftp",
        }
        (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd's empty folder, which the Debian service makes
        self.command = [sshd, "-D", "-e", "-f", str(folder / "sshd_config")]
        self.start()

    def kill(self) -> None:
        """sshd moves each connection to a session of its own, so its children are found by parent."""
        import psutil

        if self.process and self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            super().kill()
            for child in children:
                if child.is_running():
                    child.kill()


class CountingProxy:
    """Forwards TCP to ``target`` and counts the bytes: ``sent`` to the server, ``received`` from it.

    ``at(bytes, action)`` runs the action once, as soon as that many more bytes have gone either way.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.sent = self.received = 0
        self._lock = threading.Lock()
        self._trigger: tuple[int, Callable[[], None]] | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        with self._lock:
            self.sent = self.received = 0

    def at(self, count: int, action: Callable[[], None]) -> None:
        with self._lock:
            self._trigger = (self.sent + self.received + count, action)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()  # the server is down: so is the proxy
                continue
            for one in (client, server):  # or SSH's small packets wait for each other, 40 ms apiece
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, drain, way in ((client, server, "sent"), (server, client, "received")):
                threading.Thread(target=self._pump, args=(source, drain, way), daemon=True).start()

    def _pump(self, source: socket.socket, drain: socket.socket, way: str) -> None:
        try:
            while data := source.recv(65536):
                action = self._count(way, len(data))
                if action:
                    action()
                drain.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, drain):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _count(self, way: str, count: int) -> Callable[[], None] | None:
        with self._lock:
            setattr(self, way, getattr(self, way) + count)
            if self._trigger and self.sent + self.received >= self._trigger[0]:
                action, self._trigger = self._trigger[1], None
                return action
        return None
