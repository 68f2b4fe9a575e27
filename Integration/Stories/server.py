# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""The server of the stories: answers each HTTP request with the address that it comes from."""
import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{self.client_address[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client whose network has changed says no more."""


server = Server(("0.0.0.0", 8000), Handler)
print("ready", flush=True)
server.serve_forever()
