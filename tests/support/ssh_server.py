"""A real SSH server on the loopback address, and a login user who becomes root by sudo: a managed node as in the field."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import typing as t

from engine import end_with_parent
from waiting import wait_for

READY_SECONDS = 120


class SSHServer:
    """`host_vars` reaches it from an inventory; it knows the engine that DOCKER_HOST names when it starts."""

    def __init__(self) -> None:
        self.user = f"nettap{os.getpid()}"
        # Not in TMPDIR: the path of the control socket has at most 107 characters.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="nettap-ssh-", dir="/tmp"))
        self.folder.chmod(0o755)  # the user's authorized key is read in the user's name
        self._sudoers = pathlib.Path(f"/etc/sudoers.d/{self.user}")
        self._made_run_folder = False
        self._process: subprocess.Popen | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def home(self) -> pathlib.Path:
        """The login user's home folder."""
        return pathlib.Path(pwd.getpwnam(self.user).pw_dir)

    @property
    def host_vars(self) -> dict[str, t.Any]:
        """Variables for the inventory: tasks log in as the user and become root."""
        options = f"-o UserKnownHostsFile={self.folder}/known_hosts -o StrictHostKeyChecking=accept-new"
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": self.user,
            "ansible_ssh_private_key_file": f"{self.folder}/user_key",
            "ansible_ssh_common_args": f"-F none {options}",
            "ansible_control_path_dir": str(self.folder),
            "ansible_become": True,
            # Root's tasks need the environment's libraries. It may lie where the login user cannot read
            # (below /root): a task with `become: false` wants /usr/bin/python3 here.
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }

    def start(self) -> None:
        """Make the user and the keys, and start the server."""
        environment = {k: v for k, v in os.environ.items() if k in ("DOCKER_HOST", "NETTAP_TEST_RUN")}
        # The password field "*": no password fits, but the account is not locked, which sshd would refuse.
        command("useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", self.user)
        set_env = ["SetEnv " + " ".join(f"{name}={value}" for name, value in environment.items())] if environment else []
        keep = f'Defaults:{self.user} env_keep += "{" ".join(environment)}"\n' if environment else ""
        self._sudoers.write_text(f"{keep}{self.user} ALL=(ALL) NOPASSWD: ALL\n")
        self._sudoers.chmod(0o440)
        for key in ("host_key", "user_key"):
            command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key))
        if not os.path.exists("/run/sshd"):  # privilege separation: sshd wants it, and systemd makes it elsewhere
            os.mkdir("/run/sshd", 0o755)
            self._made_run_folder = True
        (self.folder / "config").write_text("\n".join([
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder}/host_key",
            f"PidFile {self.folder}/pid",
            f"AuthorizedKeysFile {self.folder}/user_key.pub",
            "StrictModes no",  # /tmp above it is everybody's
            "UsePAM no",
            "PasswordAuthentication no",
            f"AllowUsers {self.user}",
            "Subsystem sftp internal-sftp",
            *set_env,
        ]) + "\n")  # fmt: skip
        self.listen()

    def listen(self) -> None:
        """Start listening (again, after cut())."""
        program = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin")
        if not program:
            raise RuntimeError("There is no sshd: run `make deps`.")
        log = self.folder / "log"
        self._process = subprocess.Popen(
            [program, "-D", "-f", self.folder / "config", "-E", log], stdin=subprocess.DEVNULL, preexec_fn=end_with_parent
        )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError(f"sshd does not listen on port {self.port}:\n{log.read_text()}")

    def wait_for_login(self) -> bool:
        """Wait until the user runs something here; tell whether that happened in time."""
        uid = pwd.getpwnam(self.user).pw_uid
        return wait_for(lambda: bool(processes_of(uid)), 60)

    def cut(self) -> None:
        """Cut every connection at once, as a failing network does; the server stays down until listen()."""
        if not self._process:
            return
        # A connection is a process of root's and, once logged in, a child of the user's, which holds the socket as well.
        connections = children_of(self._process.pid)
        for pid in [*(child for parent in connections for child in children_of(parent)), *connections, self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End the server and whatever its user left running, and remove the user and all files."""
        self.cut()
        with contextlib.suppress(KeyError):
            uid = pwd.getpwnam(self.user).pw_uid
            for pid in processes_of(uid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not processes_of(uid))
            command("userdel", "--remove", self.user)
        self._sudoers.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._made_run_folder:
            os.rmdir("/run/sshd")


def command(*argv: str) -> None:
    """Run a command; raise with its own words when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]}: {done.stderr.strip()}")


def children_of(pid: int) -> list[int]:
    """Return the PIDs of a process's direct children (proc(5))."""
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processes_of(uid: int) -> list[int]:
    """Return the PIDs of a user's processes."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                found.append(int(entry.name))
    return found
