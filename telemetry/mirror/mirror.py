"""Copies a server's streams into a folder here, newest first, and follows them as they grow."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from mlxdeck.telemetry.mirror.server_files import RemoteFile, ServerFiles, ServerFilesError
from mlxdeck.telemetry.schema.file_names import FILE_NAME

POLL_S = 0.4
MAX_REST_S = 10.0
"""Between two tries, while the server can't be reached."""
STEP_BYTES = 16 << 20
"""After so much, the list is asked for again: the newest stream goes first."""


class Mirror:
    """The streams of one server. `copy`, `step` and `run` are for one thread."""

    def __init__(self, server: ServerFiles, folder: Path) -> None:
        """`folder` belongs to the mirror alone; what the server has no more is removed from it."""
        self.folder = folder
        self.trouble = ""
        """Why the server can't be asked at present; empty if it can. For any thread."""
        self.trouble_ts = 0.0
        """Since when."""
        self.answered_ts = 0.0
        """When it answered last."""
        self._server = server
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The server's."""
        return self._server.url

    @property
    def place(self) -> str:
        """Its host and port."""
        return self._server.place

    @property
    def is_recording(self) -> bool:
        """Whether the server has telemetry."""
        return self._server.is_recording

    def copy(self) -> int:
        """Take over all that there is by now, and return how many bytes were copied.

        Raises:
            ServerFilesError: It can't be had.
        """
        n_bytes = 0
        while found := self.step():
            n_bytes += found
        return n_bytes

    def step(self) -> int:
        """Ask once, and copy some of what is new; return how many bytes that was.

        Raises:
            ServerFilesError: It can't be had.
        """
        files = self._server.files()
        self.answered_ts = time.time()
        self._remove_others({each.name for each in files})
        n_copied = 0
        for each in reversed(files):
            while n_copied < STEP_BYTES and not self._stopping.is_set():
                n_bytes = self._append(each)
                n_copied += n_bytes
                if not n_bytes:
                    break
        return n_copied

    def start(self) -> None:
        """Follow the server on a thread of its own, until `close`."""
        self._thread = threading.Thread(target=self.run, name="mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; a question that is under way is not waited for."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def missed(self, why: str) -> None:
        """It could not be asked."""
        if not self.trouble:
            self.trouble_ts = time.time()
        self.trouble = why

    def run(self) -> None:
        """Copy until `close`, whatever the server does meanwhile."""
        rest_s = POLL_S
        while not self._stopping.is_set():
            try:
                n_bytes = self.step()
                self.trouble, rest_s = "", 0.0 if n_bytes else POLL_S
            except ServerFilesError as error:
                self.missed(str(error))
                rest_s = min(MAX_REST_S, max(1.0, 2 * rest_s))
            except OSError as error:
                # Here, not there: a disk that is full may be emptied.
                self.missed(f"{self.folder}: {error.strerror}")
                rest_s = MAX_REST_S
            self._stopping.wait(rest_s)
        self._server.close()

    def _append(self, file: RemoteFile) -> int:
        """Copy the next part of a file, if there is one."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        path = self.folder / file.name
        fd = os.open(path, flags, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size > file.n_bytes:
                # Another file of this name, or one that was cut.
                os.ftruncate(fd, 0)
                size = 0
            raw = self._server.part(file.name, size) if size < file.n_bytes else b""
            at = 0
            while at < len(raw):
                at += os.write(fd, raw[at:])
            if raw and file.modified_ts > 0:
                # Readers go by it to tell new streams from old ones.
                os.utime(fd, (file.modified_ts, file.modified_ts))
            return len(raw)
        finally:
            os.close(fd)

    def _remove_others(self, names: set[str]) -> None:
        for path in self.folder.iterdir():
            if FILE_NAME.fullmatch(path.name) and path.name not in names:
                path.unlink(missing_ok=True)
