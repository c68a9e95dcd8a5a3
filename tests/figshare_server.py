"""A server on loopback with the JSON shape of the figshare API, that can be told to misbehave."""

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Figshare:
    """What is served, and what was asked for: (path, Range header)."""

    def __init__(self, files, article):
        self.files, self.article, self.requests = files, article, []
        self.down = self.bad_json = self.ignore_range = False
        self.missing, self.wrong_md5, self.slow = set(), set(), set()
        self.cut_after = {}  # name: list of byte positions; each request is cut at the next
        self.names = {}  # another name or folder to announce
        self.listing = "article"  # or "pages": the article names ten files only

    def entries(self, base):
        for k, (name, content) in enumerate(self.files.items()):
            md5 = hashlib.md5(content + (b"!" if name in self.wrong_md5 else b"")).hexdigest()
            folder, _, short = self.names.get(name, name).rpartition("/")
            yield (
                folder,
                {
                    "id": 1000 + k,
                    "name": short,
                    "size": len(content),
                    "is_link_only": False,
                    "computed_md5": md5,
                    "supplied_md5": md5,
                    "mimetype": "text/plain",
                    "download_url": f"{base}/files/{1000 + k}",
                },
            )

    def answer(self, handler):
        path, _, query = handler.path.partition("?")
        self.requests.append((handler.path, handler.headers.get("Range")))
        base = f"http://{handler.headers['Host']}"
        entries = list(self.entries(base))
        if self.down:
            return send(handler, 503, b"busy")
        if path == f"/v2/articles/{self.article}":
            shown = entries[:10] if self.listing == "pages" else entries
            about = {
                "id": self.article,
                "title": "test",
                "doi": f"10.11583/DTU.{self.article}",
                "version": 1,
                "files": [entry for _, entry in shown],
                "folder_structure": {str(e["id"]): f for f, e in entries if f},
            }
            return send(
                handler, 200, b"{'not json" if self.bad_json else json.dumps(about).encode()
            )
        if path == f"/v2/articles/{self.article}/files" and self.listing == "pages":
            options = dict(pair.split("=") for pair in query.split("&"))
            size, page = int(options["page_size"]), int(options["page"])
            return send(
                handler,
                200,
                json.dumps([e for _, e in entries[(page - 1) * size : page * size]]).encode(),
            )
        if path.startswith("/files/"):
            return self.send_file(
                handler, list(self.files)[int(path.removeprefix("/files/")) - 1000]
            )
        return send(handler, 404, b'{"message": "not found"}')

    def send_file(self, handler, name):
        if name in self.missing:
            return send(handler, 404, b"gone")
        content, start = self.files[name], 0
        asked = handler.headers.get("Range")
        if asked and not self.ignore_range:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if asked and not self.ignore_range else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        if asked and not self.ignore_range:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        if name in self.slow:
            handler.wfile.write(content[start : start + 10])
            handler.wfile.flush()
            time.sleep(1.5)
            return None
        cuts = self.cut_after.get(name)
        handler.wfile.write(content[start : cuts.pop(0) if cuts else None])
        handler.wfile.flush()
        handler.close_connection = True
        return None


def send(handler, status, content):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@contextmanager
def figshare(files, article):
    """A running server; its ``url`` is for ``MLIPKIT_FIGSHARE``."""
    state = Figshare(files, article)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
