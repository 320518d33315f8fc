"""Servers that take messages, and keep them in `got`."""

import email
import json
import socketserver
import threading
from email import policy
from http.server import BaseHTTPRequestHandler

import pytest


class Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as a client needs."""

    def handle(self):
        self.wfile.write(b"220 ready\r\n")
        while line := self.rfile.readline():
            verb = line.strip().upper()
            self.wfile.write(b"354 go on\r\n" if verb == b"DATA" else b"250 ok\r\n")
            if verb == b"DATA":
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.got.append(email.message_from_bytes(b"".join(lines), policy=policy.default))
                self.wfile.write(b"250 ok\r\n")


class Hook(BaseHTTPRequestHandler):
    """An address that takes JSON."""

    def do_POST(self):
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    """Start a server on loopback, which keeps what it gets."""
    servers = []

    def start(handler):
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        server.got, server.answer = [], 200
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
