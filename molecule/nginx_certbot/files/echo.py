"""Answers every request with its own headers as JSON, and accepts WebSocket upgrades; on a socket and on port 8000."""

import http.server
import json
import os
import socket
import socketserver
import threading


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            self.wfile.write(b"hello from the other side")
            self.close_connection = True
            return
        body = json.dumps({"path": self.path, "headers": dict(self.headers)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def address_string(self):
        return "-"


class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    address_family = socket.AF_UNIX


threading.Thread(target=http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Echo).serve_forever, daemon=True).start()
unix = Unix("/run/echo/echo.sock", Echo)
os.chmod("/run/echo/echo.sock", 0o666)
unix.serve_forever()
